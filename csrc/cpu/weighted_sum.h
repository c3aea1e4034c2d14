// forward and grad_input on plain windows: sums of the input's pixels, weighted.
//
// Input rows are packed into dense blocks in the accumulation type, a chunk of channels at a time, whatever the
// tensor's layout and type; the inner loop (tile.h) knows one format only.
#pragma once

#include "arena.h"
#include "item.h"
#include "tile.h"
#include "weights.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// The sizes of a weighted sum, in elements.
template <class A>
struct SumSizes {
  static constexpr int64_t kChannels = kChunk<A>;
  // Rows of output that are finished together, so that the input rows of a tile stay in L1 for the tile below it; and
  // channels whose rings are kept at a time.
  static constexpr int64_t kStep = 3, kSlab = 256;
  // The logits of the next block are asked for while the last so many chunks of channels are summed up. Over twice as
  // many chunks, forward took 1 % longer.
  static constexpr int64_t kAhead = 4;

  bool reversed;
  int64_t K, r, area, depth;   // of the kernel; channels of the group
  int64_t tiles, pixels;       // that cover a row of the item
  int64_t pitch, wide;         // of a row of taps, and of one with its halo
  int64_t step;
  int64_t slab;                // at least one chunk of channels, so that a sum over none ends
  int64_t slots, row, ring;    // rows of a ring of input, and their size
  int64_t tile_weights, row_weights;
  int64_t block;               // rows, in whole steps, whose weights take a quarter of L2
  int64_t weight_rows;         // rows whose weights are kept: with more than one slab the item's, for the later ones

  SumSizes(const Problem& p, const Item& item, bool reversed)
      : reversed(reversed),
        K(p.kernel),
        r(K / 2),
        area(K * K),
        depth(p.channels / p.groups),
        tiles(divide_up(item.columns, kTile)),
        pixels(tiles * kTile),
        pitch(divide_up(pixels, kLanes<A>) * kLanes<A>),
        wide(pitch + divide_up(K - 1, kLanes<A>) * kLanes<A>),
        step(std::min(kStep, item.rows)),
        slab(std::clamp(divide_up(depth, kChannels) * kChannels, kChannels, kSlab)),
        slots(step + K - 1),
        row((pixels + K - 1) * kChannels),
        ring(slots * row),
        tile_weights(area * kTile + kOverrun<A>),
        row_weights(tiles * tile_weights),
        block(std::min(std::max<int64_t>(1, l2_bytes() / 4 / step_bytes()) * step, item.rows)),
        weight_rows(depth > slab ? item.rows : block) {}

  int64_t step_bytes() const { return step * row_weights * int64_t(sizeof(A)); }
};

template <class A>
struct SumArrays {
  Arena arena;
  const SumSizes<A>& s;

  A* const taps = arena.array<A>(s.area * s.pitch + 2 * kLanes<A>);  // [K * K, pitch], one row of pixels
  A* const tap_row = arena.array<A>(s.reversed ? s.K * s.wide : 0);  // [K, wide], where weights are gathered
  A* const scale = arena.array<A>(s.pitch + 2 * kLanes<A>);          // [pitch], by which a row's taps become weights
  A* const lse_row = arena.array<A>(s.wide);                         // [wide]
  A* const weights = arena.array<A>(s.weight_rows * s.row_weights);  // [weight_rows, tiles, tile_weights]
  // [slab / kChannels, slots, pixels + K - 1, kChannels], the rings
  A* const input = arena.array<A>(s.slab / s.kChannels * s.ring);
  A* const out = arena.array<A>(s.step * s.pixels * s.kChannels);    // [step, pixels, kChannels]
  int64_t* const slot = arena.array<int64_t>(2 * s.slots);           // [2 * slots], where a row of a ring lies

  explicit SumArrays(const SumSizes<A>& sizes) : s(sizes) {}
};

// forward (reversed = false) and grad_input (reversed = true): the same sum with other weights.
//
// The item is swept downwards, once for each slab of channels, a block of rows at a time. Each weight is computed once,
// and stays in L2 while the chunks of channels go by; a chunk goes down the block a few rows at a time, and packs each
// input row once, into a ring of its own.
template <class T>
class WeightedSum {
 public:
  WeightedSum(const Problem& p, const Item& item, bool reversed)
      : p_(p),
        item_(item),
        sizes_(p, item, reversed),
        arrays_(sizes_),
        source_(plane<const T>(p.data, p, item, item.group * sizes_.depth)),
        result_(plane<T>(p.result, p, item, item.group * sizes_.depth)),
        logits_(plane<T>(p.logits, p, item, item.group * sizes_.area)),
        lse_(lse_plane<A>(p, item)),
        columns_(clip(item.column - sizes_.r, sizes_.pixels + sizes_.K - 1, item.width)),
        past_caches_(goes_past_caches(result_, p, item)),
        compute_(tile_for<A>(sizes_.K)),
        compute_last_(item.columns - (sizes_.tiles - 1) * kTile > kNarrowTile ? compute_
                                                                              : tile_for<A, kNarrowTile>(sizes_.K)) {
    // Row y lies at slot[y % slots] of its ring. All slots come twice, so that going back K rows from the second copy
    // needs no wrap.
    for (int64_t i = 0; i < 2 * sizes_.slots; ++i) arrays_.slot[i] = i % sizes_.slots * sizes_.row;
  }

  void run() const {
    // The first sweep is made even without a channel: it writes the log-sum-exp.
    for (int64_t first = 0; first == 0 || first < sizes_.depth; first += sizes_.slab) sweep(first);
  }

 private:
  using A = Accumulate<T>;
  using Sizes = SumSizes<A>;

  // Rows [top, end) of output, and the input rows [packed, bottom) that are packed for them.
  struct Rows {
    int64_t top, end;
    int64_t packed, bottom;
  };

  Rows rows_from(int64_t top, int64_t packed) const {
    const int64_t end = std::min(top + sizes_.step, item_.row + item_.rows);
    return {top, end, packed, std::min(end + sizes_.r, item_.height)};
  }
  Rows first_rows() const { return rows_from(item_.row, std::max<int64_t>(0, item_.row - sizes_.r)); }
  Rows rows_after(const Rows& rows) const { return rows_from(rows.end, rows.bottom); }

  // The sum over the slab of channels from `first` on.
  void sweep(int64_t first) const {
    for (Rows rows = first_rows(); rows.top < item_.row + item_.rows;) rows = sum_block(rows, first);
  }

  // The sum over a slab for the block of rows that begins with `start`; returns the rows after it.
  Rows sum_block(const Rows& start, int64_t first) const {
    const int64_t item_end = item_.row + item_.rows, end = std::min(start.top + sizes_.block, item_end);
    const bool kept = sizes_.weight_rows == item_.rows;
    A* const weights = arrays_.weights + (kept ? (start.top - item_.row) * sizes_.row_weights : 0);
    const auto weights_of = [&](const Rows& rows) { return weights + (rows.top - start.top) * sizes_.row_weights; };
    Rows after = start;
    for (; after.top < end; after = rows_after(after))
      if (first == 0) prepare_weights(weights_of(after), after);

    const int64_t slab_end = std::min(first + sizes_.slab, sizes_.depth);
    const int64_t ahead = std::max(slab_end - Sizes::kAhead * Sizes::kChannels, first);
    const int64_t turns = divide_up(slab_end - ahead, Sizes::kChannels) * sizes_.tiles * (end - start.top);
    Prefetch logits = first == 0 ? logits_of(end, std::min(end + sizes_.block, item_end)) : Prefetch();
    const int64_t logits_runs = divide_up(logits.left(), std::max<int64_t>(turns, 1));
    for (int64_t c = first; c < slab_end; c += Sizes::kChannels) {
      A* const ring = arrays_.input + (c - first) / Sizes::kChannels * sizes_.ring;
      for (Rows rows = start; rows.top < end; rows = rows_after(rows)) {
        pack_rows(ring, rows, c);
        const Prefetch input = rows.end < end                    ? input_of(rows_after(rows), c)
                               : c + Sizes::kChannels < slab_end ? input_of(start, c + Sizes::kChannels)
                               : end < item_end                  ? input_of(after, first)
                                                                 : input_of(first_rows(), slab_end);
        compute_tiles(ring, weights_of(rows), rows, input, logits, c < ahead ? 0 : logits_runs);
        unpack_rows(rows, c);
      }
    }
    return after;
  }

  // Makes the weights of some rows of output, and writes their log-sum-exp if it is asked for.
  void prepare_weights(A* weights, const Rows& rows) const {
    A* const scale = p_.normalize && !sizes_.reversed ? arrays_.scale : nullptr;
    for (int64_t row = rows.top; row < rows.end; ++row) {
      if (sizes_.reversed) {
        gather_weights(arrays_.taps, sizes_.pitch, arrays_.tap_row, arrays_.lse_row, sizes_.wide, p_, item_, logits_,
                       lse_, row);
      } else {
        read_logits(arrays_.taps, sizes_.pitch, p_, item_, logits_, row);
        if (p_.normalize) {
          softmax(arrays_.taps, sizes_.pitch, sizes_.area, scale, p_.lse ? arrays_.lse_row : nullptr);
          if (p_.lse)
            for (int64_t j = 0; j < item_.columns; ++j) *lse_.at(0, row, item_.column + j) = arrays_.lse_row[j];
        }
      }
      split_tiles(weights + (row - rows.top) * sizes_.tile_weights, (rows.end - rows.top) * sizes_.tile_weights,
                  arrays_.taps, sizes_.pitch, scale, sizes_.tiles, sizes_.area);
    }
  }

  // The channels of the chunk from `c` on.
  int64_t channels(int64_t c) const { return std::min(Sizes::kChannels, sizes_.depth - c); }

  void pack_rows(A* ring, const Rows& rows, int64_t c) const {
    for (int64_t y = rows.packed; y < rows.bottom; ++y)
      pack(ring + arrays_.slot[y % sizes_.slots], Sizes::kChannels, source_.at(c, y, item_.column - sizes_.r),
           source_.c, source_.w, Span{0, channels(c), Sizes::kChannels}, columns_, A(0));
  }

  // The memory that pack_rows() reads.
  Prefetch input_of(const Rows& rows, int64_t c) const {
    return Prefetch::block(source_.at(c, rows.packed, item_.column - sizes_.r + columns_.first),
                           rows.bottom - rows.packed, source_.h, channels(c), source_.c,
                           columns_.last - columns_.first, source_.w);
  }

  // The memory that prepare_weights() reads for rows [top, end).
  Prefetch logits_of(int64_t top, int64_t end) const {
    const int64_t K = sizes_.K, r = sizes_.r;
    if (!sizes_.reversed)
      return Prefetch::block(logits_.at(0, top, item_.column), end - top, logits_.h, sizes_.area, logits_.c,
                             item_.columns, logits_.w);
    if (logits_.w != 1) return {};
    // Tap row t of row y lies in row y + t - r.
    const int64_t from = std::max(top, r), to = std::min(end, item_.height - r);
    return {logits_.at(0, from - r, item_.column), {std::max<int64_t>(to - from, 0), logits_.h},
            {K, K * logits_.c + logits_.h}, {K, logits_.c}, item_.columns};
  }

  // Sums up all tiles of the rows. The memory that is read next is asked for meanwhile.
  void compute_tiles(const A* ring, const A* weights, const Rows& rows, Prefetch input, Prefetch& logits,
                     int64_t logits_runs) const {
    const int64_t input_runs = divide_up(input.left(), sizes_.tiles * (rows.end - rows.top));
    const int64_t K = sizes_.K, r = sizes_.r;
    for (int64_t tile = 0; tile < sizes_.tiles; ++tile) {
      const Tile<A> compute = tile + 1 < sizes_.tiles ? compute_ : compute_last_;
      for (int64_t row = rows.top; row < rows.end; ++row, weights += sizes_.tile_weights) {
        input.step(input_runs);
        logits.step(logits_runs);
        // Tap row t reads input row row - (t - r).
        const int64_t first_tap = std::max<int64_t>(0, row + r - (item_.height - 1));
        const int64_t last_tap = std::min(K, row + r + 1);
        compute(arrays_.out + ((row - rows.top) * sizes_.pixels + tile * kTile) * Sizes::kChannels,
                ring + tile * kTile * Sizes::kChannels, arrays_.slot + sizes_.slots + (row + r) % sizes_.slots,
                weights, K, first_tap, last_tap);
      }
    }
  }

  void unpack_rows(const Rows& rows, int64_t c) const {
    for (int64_t row = rows.top; row < rows.end; ++row)
      unpack(result_.at(c, row, item_.column), result_.c, result_.w,
             arrays_.out + (row - rows.top) * sizes_.pixels * Sizes::kChannels, Sizes::kChannels, channels(c),
             item_.columns, past_caches_);
  }

  const Problem& p_;
  const Item& item_;
  const Sizes sizes_;
  const SumArrays<A> arrays_;
  const Plane<const T> source_;
  const Plane<T> result_, logits_;
  const Plane<A> lse_;
  const Span columns_;
  const bool past_caches_;
  const Tile<A> compute_, compute_last_;
};

template <class T>
void weighted_sum(const Problem& p, const Item& item, bool reversed) {
  WeightedSum<T>(p, item, reversed).run();
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

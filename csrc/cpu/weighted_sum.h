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
  // channels that are summed up in one sweep: few, so that their planes are read and written in long runs, and that
  // their rings stay in L2.
  static constexpr int64_t kStep = 3, kSlab = std::max<int64_t>(32, kChannels);

  bool reversed;
  int64_t K, r, area, depth;   // of the kernel; channels of the group
  int64_t tiles, pixels;       // that cover a row of the item
  int64_t pitch, wide;         // of a row of taps, and of one with its halo
  int64_t step;
  int64_t slots, row, ring;    // rows of a ring of input, and their size
  int64_t tile_weights, row_weights;
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
        slots(step + K - 1),
        row((pixels + K - 1) * kChannels),
        ring(slots * row),
        tile_weights(area * kTile + kOverrun<A>),
        row_weights(tiles * tile_weights),
        weight_rows(depth > kSlab ? item.rows : step) {}
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
  // [kSlab / kChannels, slots, pixels + K - 1, kChannels], the rings
  A* const input = arena.array<A>(s.kSlab / s.kChannels * s.ring);
  A* const out = arena.array<A>(s.step * s.pixels * s.kChannels);    // [step, pixels, kChannels]
  int64_t* const slot = arena.array<int64_t>(2 * s.slots);           // [2 * slots], where a row of a ring lies

  explicit SumArrays(const SumSizes<A>& sizes) : s(sizes) {}
};

// forward (reversed = false) and grad_input (reversed = true): the same sum with other weights.
//
// The item is swept downwards, a few rows at a time, once for each slab of channels. Each input row is packed once,
// into the ring of its chunk of channels; each weight is computed in the first sweep, and read in order by the others.
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
    for (int64_t first = 0; first == 0 || first < sizes_.depth; first += Sizes::kSlab) sweep(first);
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
    const int64_t item_end = item_.row + item_.rows, slab_end = std::min(first + Sizes::kSlab, sizes_.depth);
    const bool kept = sizes_.weight_rows == item_.rows;
    for (Rows rows = first_rows(); rows.top < item_end; rows = rows_after(rows)) {
      A* const weights = arrays_.weights + (kept ? (rows.top - item_.row) * sizes_.row_weights : 0);
      if (first == 0) prepare_weights(weights, rows);
      for (int64_t c = first; c < slab_end; c += Sizes::kChannels) {
        A* const ring = arrays_.input + (c - first) / Sizes::kChannels * sizes_.ring;
        pack_rows(ring, rows, c);
        const Prefetch next = c + Sizes::kChannels < slab_end ? input_of(rows, c + Sizes::kChannels)
                              : rows.end < item_end           ? input_of(rows_after(rows), first)
                                                              : input_of(first_rows(), slab_end);
        compute_tiles(ring, weights, rows, next);
        unpack_rows(rows, c);
      }
    }
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

  // Sums up all tiles of the rows. The memory that is read next is asked for meanwhile.
  void compute_tiles(const A* ring, const A* weights, const Rows& rows, Prefetch next) const {
    const int64_t runs = divide_up(next.left(), sizes_.tiles * (rows.end - rows.top));
    const int64_t K = sizes_.K, r = sizes_.r;
    for (int64_t tile = 0; tile < sizes_.tiles; ++tile) {
      const Tile<A> compute = tile + 1 < sizes_.tiles ? compute_ : compute_last_;
      for (int64_t row = rows.top; row < rows.end; ++row, weights += sizes_.tile_weights) {
        next.step(runs);
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

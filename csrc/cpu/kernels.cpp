// The three products on one instruction set. This file is compiled once per set, into namespace SVCONV_ISA.
//
// Input rows are packed into dense blocks in the accumulation type, a chunk of channels at a time, whatever the
// tensor's layout and type; the inner loops (tile.h) know one format only.
#include "item.h"
#include "tile.h"
#include "weights.h"

#include <stdexcept>
#include <string>

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Hands out aligned arrays of the thread's scratch memory.
class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class A>
  A* array(int64_t count) {
    A* const here = base_ ? reinterpret_cast<A*>(base_ + size_) : nullptr;
    size_ += (count * sizeof(A) + 127) / 64 * 64;
    return here;
  }
  size_t size() const { return size_; }

 private:
  char* base_;
  size_t size_ = 0;
};

// The arrays that `lay_out(arena)` takes of an arena. It is called twice, for the scratch memory's size must be known
// before: first with an arena without memory, which only counts.
template <class LayOut>
auto in_scratch(const LayOut& lay_out) {
  Arena counted(nullptr);
  lay_out(counted);
  Arena arena(scratch(counted.size()));
  return lay_out(arena);
}

// Vectors that cover a tile's pixels, and the elements by which they reach beyond it.
template <class A>
constexpr int kTileVectors = (kTile + kLanes<A> - 1) / kLanes<A>;
template <class A>
constexpr int kOverrun = kTileVectors<A> * kLanes<A> - kTile;

// Cuts [taps, pitch], times the pixels' scale if there is one, into tiles of [taps, kTile], `apart` elements from one
// to the next. Stores run over by kOverrun elements into the next tap, which is written after.
template <class A>
void split_tiles(A* dst, int64_t apart, const A* taps, int64_t pitch, const A* scale, int64_t tiles, int64_t area) {
  constexpr int L = kLanes<A>;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    A* to = dst + tile * apart;
    const A* from = taps + tile * kTile;
    Vec<A> factor[kTileVectors<A>];
    for (int i = 0; i < kTileVectors<A>; ++i)
      factor[i] = scale ? vload(scale + tile * kTile + i * L) : Vec<A>{} + A(1);
    for (int64_t k = 0; k < area; ++k)
      for (int i = 0; i < kTileVectors<A>; ++i)
        vstore(to + k * kTile + i * L, vload(from + k * pitch + i * L) * factor[i]);
  }
}

// The sizes of a weighted sum, in elements.
template <class A>
struct SumSizes {
  static constexpr int64_t kChannels = kChunk<A>;
  // Rows of output that are finished together, so that the input rows of a tile stay in L1 for the tile below it; and
  // channels whose rings are kept at a time.
  static constexpr int64_t kStep = 3, kSlab = 256;

  bool reversed;
  int64_t K, r, area, depth;   // of the kernel; channels of the group
  int64_t tiles, pixels;       // that cover a row of the item
  int64_t pitch, wide;         // of a row of taps, and of one with its halo
  int64_t step, slab;
  int64_t slots, row, ring;    // rows of a ring of input, and their size
  int64_t tile_weights, row_weights;
  int64_t weight_rows;         // rows whose weights are kept: with more than one slab the item's, for those that follow

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
        slab(std::min(kSlab, divide_up(depth, kChannels) * kChannels)),
        slots(step + K - 1),
        row((pixels + K - 1) * kChannels),
        ring(slots * row),
        tile_weights(area * kTile + kOverrun<A>),
        row_weights(tiles * tile_weights),
        weight_rows(depth > slab ? item.rows : step) {}
};

template <class A>
struct SumArrays {
  A* taps;       // [K * K, pitch], one row of pixels
  A* tap_row;    // [K, wide], where weights are gathered
  A* scale;      // [pitch], by which a row's taps become weights
  A* lse_row;    // [wide]
  A* weights;    // [weight_rows, tiles, tile_weights]
  A* input;      // [slab / kChannels, slots, pixels + K - 1, kChannels], the rings
  A* out;        // [step, pixels, kChannels]
  int64_t* slot;  // [2 * slots], where a row of a ring lies

  SumArrays(Arena& arena, const SumSizes<A>& s)
      : taps(arena.array<A>(s.area * s.pitch + 2 * kLanes<A>)),
        tap_row(arena.array<A>(s.reversed ? s.K * s.wide : 0)),
        scale(arena.array<A>(s.pitch + 2 * kLanes<A>)),
        lse_row(arena.array<A>(s.wide)),
        weights(arena.array<A>(s.weight_rows * s.row_weights)),
        input(arena.array<A>(s.slab / s.kChannels * s.ring)),
        out(arena.array<A>(s.step * s.pixels * s.kChannels)),
        slot(arena.array<int64_t>(2 * s.slots)) {}
};

// forward (reversed = false) and grad_input (reversed = true): the same sum with other weights.
//
// The item is swept downwards, a few rows at a time. Each input row is packed once, into the ring of its chunk of
// channels; each weight is computed once, and stays in L2 while the chunks go by.
template <class T>
class WeightedSum {
 public:
  WeightedSum(const Problem& p, const Item& item, bool reversed)
      : p_(p),
        item_(item),
        sizes_(p, item, reversed),
        arrays_(in_scratch([this](Arena& arena) { return SumArrays<A>(arena, sizes_); })),
        source_(plane<const T>(p.data, p, item, item.group * sizes_.depth)),
        result_(plane<T>(p.result, p, item, item.group * sizes_.depth)),
        logits_(plane<T>(p.logits, p, item, item.group * sizes_.area)),
        lse_(lse_plane<A>(p, item)),
        columns_(clip(item.column - sizes_.r, sizes_.pixels + sizes_.K - 1, item.width)),
        past_caches_(goes_past_caches(result_, p, item)),
        compute_(tile_for<A>(sizes_.K)) {
    // Row y lies at slot[y % slots] of its ring. All slots come twice, so that going back K rows from the second copy
    // needs no wrap.
    for (int64_t i = 0; i < 2 * sizes_.slots; ++i) arrays_.slot[i] = i % sizes_.slots * sizes_.row;
  }

  void run() const {
    // The first slab is swept even without a channel: it writes the log-sum-exp.
    for (int64_t first = 0; first == 0 || first < sizes_.depth; first += sizes_.kSlab) sweep(first);
  }

 private:
  using A = Accumulate<T>;
  using Sizes = SumSizes<A>;

  // Rows [top, end) of output, and the input rows that are packed for them.
  struct Rows {
    int64_t top, end;
    int64_t packed, bottom;
  };

  // The sum over the slab of channels from `first` on.
  void sweep(int64_t first) const {
    const int64_t item_end = item_.row + item_.rows, slab_end = std::min(first + sizes_.slab, sizes_.depth);
    int64_t packed = std::max<int64_t>(0, item_.row - sizes_.r);
    for (int64_t top = item_.row; top < item_end; top += sizes_.step) {
      const int64_t end = std::min(top + sizes_.step, item_end);
      const Rows rows{top, end, packed, std::min(end + sizes_.r, item_.height)};
      A* weights = arrays_.weights + (sizes_.weight_rows == item_.rows ? (top - item_.row) * sizes_.row_weights : 0);
      if (first == 0) prepare_weights(weights, rows);
      for (int64_t c = first; c < slab_end; c += Sizes::kChannels) {
        const int64_t channels = std::min(Sizes::kChannels, sizes_.depth - c);
        A* ring = arrays_.input + (c - first) / Sizes::kChannels * sizes_.ring;
        pack_rows(ring, rows, c, channels);
        const int64_t left = slab_end - c - Sizes::kChannels;
        compute_tiles(ring, weights, rows, c, std::max<int64_t>(0, std::min(Sizes::kChannels, left)));
        unpack_rows(rows, c, channels);
      }
      packed = rows.bottom;
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

  void pack_rows(A* ring, const Rows& rows, int64_t c, int64_t channels) const {
    for (int64_t y = rows.packed; y < rows.bottom; ++y)
      pack(ring + arrays_.slot[y % sizes_.slots], Sizes::kChannels, source_.at(c, y, item_.column - sizes_.r),
           source_.c, source_.w, Span{0, channels, Sizes::kChannels}, columns_, A(0));
  }

  // Sums up all tiles of the rows for the chunk of channels from `c` on. The memory of the next chunk, of
  // `next_channels`, is asked for meanwhile.
  void compute_tiles(const A* ring, const A* weights, const Rows& rows, int64_t c, int64_t next_channels) const {
    Prefetch prefetch = Prefetch::block(
        source_.at(c + Sizes::kChannels, rows.packed, item_.column - sizes_.r + columns_.first),
        rows.bottom - rows.packed, source_.h, next_channels, source_.c, columns_.last - columns_.first, source_.w);
    const int64_t runs = divide_up(prefetch.left(), sizes_.tiles * (rows.end - rows.top));
    const int64_t K = sizes_.K, r = sizes_.r;
    for (int64_t tile = 0; tile < sizes_.tiles; ++tile)
      for (int64_t row = rows.top; row < rows.end; ++row, weights += sizes_.tile_weights) {
        prefetch.step(runs);
        // Tap row t reads input row row - (t - r).
        const int64_t first_tap = std::max<int64_t>(0, row + r - (item_.height - 1));
        const int64_t last_tap = std::min(K, row + r + 1);
        compute_(arrays_.out + ((row - rows.top) * sizes_.pixels + tile * kTile) * Sizes::kChannels,
                 ring + tile * kTile * Sizes::kChannels, arrays_.slot + sizes_.slots + (row + r) % sizes_.slots, weights,
                 K, first_tap, last_tap);
      }
  }

  void unpack_rows(const Rows& rows, int64_t c, int64_t channels) const {
    for (int64_t row = rows.top; row < rows.end; ++row)
      unpack(result_.at(c, row, item_.column), result_.c, result_.w,
             arrays_.out + (row - rows.top) * sizes_.pixels * Sizes::kChannels, Sizes::kChannels, channels,
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
  const Tile<A> compute_;
};

// Puts grad_logits = w * (dw - delta), delta = sum over taps of w * dw, in place of dw.
template <class A>
void softmax_backward(A* dw, const A* w, int64_t pitch, int64_t area) {
  for (int64_t l = 0; l < pitch; l += kLanes<A>) {
    Vec<A> delta = {};
    for (int64_t k = 0; k < area; ++k) delta += vload(w + k * pitch + l) * vload(dw + k * pitch + l);
    for (int64_t k = 0; k < area; ++k) {
      A* to = dw + k * pitch + l;
      vstore(to, vload(w + k * pitch + l) * (vload(to) - delta));
    }
  }
}

// Packs [channels, columns] for the reduction: [vectors, channels, lanes]. `lines` is scratch of a row of vectors for
// every channel.
template <class T, class A = Accumulate<T>>
void pack_vectors(A* dst, int64_t apart, int64_t vectors, A* lines, const T* src, int64_t column_stride,
                  int64_t channel_stride, Span columns, int64_t channels) {
  constexpr int L = kLanes<A>;
  pack(lines, vectors * L, src, column_stride, channel_stride, columns, Span{0, channels, channels}, A(0));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t b = 0; b < vectors; ++b)
      vstore(dst + b * apart + c * L, vload(lines + (c * vectors + b) * L));
}

template <class A>
struct GradientArrays {
  A* dw;       // [rows of the item, K * K, pitch]
  A* x;        // [slots, channels, wide], the ring of input rows
  A* g;        // [step, vectors, channels, lanes]
  A* lines;    // [channels, pitch]
  A* taps;     // [K * K, pitch]
  A* lse_row;  // [pitch]
};

// grad_weight of one item. It is swept downwards once for every chunk of channels, whose rows then stay in L2; the
// gradient accumulates over the chunks, in the order of the channels.
template <class T>
void grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  constexpr int L = kLanes<A>;
  // Rows that are reduced together, and channels, whose rows of input stay in L2 together with a step's gradient.
  constexpr int64_t kStep = 2 * kRows, chunk = 32;
  const int64_t K = p.kernel, r = K / 2, area = K * K, depth = p.channels / p.groups;
  const int64_t vectors = divide_up(item.columns, L), pitch = vectors * L;
  const int64_t wide = row_width<A>(pitch, K);
  const int64_t step = std::min(kStep, item.rows), slots = step + K - 1, deepest = std::min(chunk, depth);
  const int64_t x_row = deepest * wide, g_row = vectors * deepest * L;

  const auto lay_out = [&](Arena& arena) {
    return GradientArrays<A>{
        arena.array<A>(item.rows * area * pitch), arena.array<A>(slots * x_row), arena.array<A>(step * g_row),
        arena.array<A>(deepest * pitch),          arena.array<A>(area * pitch),  arena.array<A>(pitch)};
  };
  const auto [dw, x, g, lines, taps, lse_row] = in_scratch(lay_out);
  fill(dw, item.rows * area * pitch, A(0));

  const auto input = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const Span x_columns = clip(item.column - r, wide, item.width), g_columns{0, item.columns, pitch};
  const int64_t item_end = item.row + item.rows;
  for (int64_t c = 0; c < depth; c += chunk) {
    const int64_t channels = std::min(chunk, depth - c);
    int64_t packed = std::max<int64_t>(0, item.row - r);
    for (int64_t top = item.row; top < item_end; top += step) {
      const int64_t end = std::min(top + step, item_end), bottom = std::min(end + r, item.height);
      for (; packed < bottom; ++packed)
        pack(x + packed % slots * x_row, wide, input.at(c, packed, item.column - r), input.w, input.c, x_columns,
             Span{0, channels, channels}, A(0));
      for (int64_t row = top; row < end; ++row)
        pack_vectors(g + (row - top) * g_row, deepest * L, vectors, lines, grad.at(c, row, item.column), grad.w, grad.c,
                     g_columns, channels);
      // The memory that the next step will pack is asked for while the reductions run.
      const int64_t next_end = std::min(end + step, item_end);
      Prefetch next_x = Prefetch::block(input.at(c, packed, item.column - r + x_columns.first),
                                        std::min(next_end + r, item.height) - packed, input.h, channels, input.c,
                                        x_columns.last - x_columns.first, input.w);
      Prefetch next_g = Prefetch::block(grad.at(c, end, item.column), next_end - end, grad.h, channels, grad.c,
                                        item.columns, grad.w);
      const int64_t turns = vectors * divide_up(end - top, kRows) * K;
      const int64_t x_runs = divide_up(next_x.left(), turns), g_runs = divide_up(next_g.left(), turns);
      for (int64_t b = 0; b < vectors; ++b)
        for (int64_t row = top; row < end; row += kRows) {
          const int64_t rows = std::min<int64_t>(kRows, end - row);
          for (int64_t y = std::max<int64_t>(0, row - r); y < std::min(item.height, row + rows + r); ++y) {
            next_x.step(x_runs);
            next_g.step(g_runs);
            // Input row y is read by tap row t of `row`, by tap row t + 1 of the row below it, and so on.
            const int64_t t = row + r - y;
            const int64_t first = std::max<int64_t>(0, -t), last = std::min(rows, K - t);
            reduce_row<A>(last - first, dw + (row - item.row + first) * area * pitch + (t + first) * K * pitch + b * L,
                          (area + K) * pitch, pitch, g + (row - top + first) * g_row + b * deepest * L, g_row,
                          x + y % slots * x_row + b * L + K - 1, wide, channels, K);
          }
        }
    }
  }

  const auto logits = plane<T>(p.logits, p, item, item.group * area);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const auto lse = lse_plane<A>(p, item);
  const bool past_caches = goes_past_caches(result, p, item);
  for (int64_t i = 0; i < item.rows; ++i) {
    const int64_t row = item.row + i;
    A* dw_row = dw + i * area * pitch;
    if (p.normalize) {
      read_logits(taps, pitch, p, item, logits, row);
      pack(lse_row, 0, static_cast<const A*>(lse.at(0, row, item.column)), lse.w, 0, Span{0, item.columns, pitch},
           Span{0, 1, 1}, A(0));
      for (int64_t k = 0; k < area; ++k) exponentiate(taps + k * pitch, taps + k * pitch, lse_row, pitch);
      softmax_backward(dw_row, taps, pitch, area);
    }
    unpack(result.at(0, row, item.column), result.w, result.c, dw_row, pitch, item.columns, area, past_caches);
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// It builds on all of the above.
#include "narrow.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

template <class T>
void run_items(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  if (!p.plain()) return run_windowed<T>(product, p, plan, begin, end);
  for (int64_t index = begin; index < end; ++index) {
    Item item;
    if (!item_at(p, plan, index, item)) continue;
    if (product == Product::grad_weight) grad_weight<T>(p, item);
    else WeightedSum<T>(p, item, product == Product::grad_input).run();
  }
}

}  // namespace

void run(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  switch (p.type) {
    case Type::float32: return run_items<float>(product, p, plan, begin, end);
    case Type::float64: return run_items<double>(product, p, plan, begin, end);
    case Type::float16: return run_items<half>(product, p, plan, begin, end);
    case Type::bfloat16: return run_items<bfloat16>(product, p, plan, begin, end);
  }
  throw std::invalid_argument("svconv::cpu::run: expected a Problem of float32, float64, float16 or bfloat16, got type "
                              "number " + std::to_string(int(p.type)));
}

}  // namespace svconv::cpu::SVCONV_ISA

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

// Carves aligned arrays out of the thread's scratch memory.
class Arena {
 public:
  template <class A>
  size_t reserve(int64_t count) {
    const size_t at = size_;
    size_ += (count * sizeof(A) + 127) / 64 * 64;
    return at;
  }
  void allocate() { base_ = static_cast<char*>(scratch(size_)); }
  template <class A>
  A* at(size_t offset) const {
    return reinterpret_cast<A*>(base_ + offset);
  }

 private:
  size_t size_ = 0;
  char* base_ = nullptr;
};

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

// forward (reversed = false) and grad_input (reversed = true): the same sum with other weights.
//
// The item is swept downwards, a few rows at a time. Each input row is packed once, into the ring of its chunk of
// channels; each weight is computed once, and stays in L2 while the chunks go by.
template <class T>
void weighted_sum(const Problem& p, const Item& item, bool reversed) {
  using A = Accumulate<T>;
  constexpr int64_t chunk = kChunk<A>;
  // Rows of output that are finished together, so that the input rows of a tile stay in L1 for the tile below it; and
  // channels whose rings are kept at a time.
  constexpr int64_t kStep = 3, kSlab = 256;
  const int64_t K = p.kernel, r = K / 2, area = K * K, depth = p.channels / p.groups;
  const int64_t tiles = div_up(item.columns, kTile), pixels = tiles * kTile;
  const int64_t pitch = div_up(pixels, kLanes<A>) * kLanes<A>, wide = pitch + div_up(K - 1, kLanes<A>) * kLanes<A>;
  const int64_t step = std::min(kStep, item.rows), slab = std::min(kSlab, div_up(depth, chunk) * chunk);
  const int64_t slots = step + K - 1, x_row = (pixels + K - 1) * chunk, x_ring = slots * x_row;
  const int64_t tile_weights = area * kTile + kOverrun<A>, row_weights = tiles * tile_weights;
  // With more than one slab the item's weights are kept for the slabs that follow.
  const bool keep_weights = depth > slab;

  Arena arena;
  const size_t taps_at = arena.reserve<A>(area * pitch + 2 * kLanes<A>);
  const size_t tap_row_at = arena.reserve<A>(reversed ? K * wide : 0);
  const size_t scale_at = arena.reserve<A>(pitch + 2 * kLanes<A>);
  const size_t lse_at = arena.reserve<A>(wide);
  const size_t w_at = arena.reserve<A>((keep_weights ? item.rows : step) * row_weights);
  const size_t x_at = arena.reserve<A>(slab / chunk * x_ring);
  const size_t out_at = arena.reserve<A>(step * pixels * chunk);
  const size_t slot_at = arena.reserve<int64_t>(2 * slots);
  arena.allocate();
  A *taps = arena.at<A>(taps_at), *tap_row = arena.at<A>(tap_row_at), *lse_row = arena.at<A>(lse_at);
  A *scale = p.normalize && !reversed ? arena.at<A>(scale_at) : nullptr, *w = arena.at<A>(w_at);
  A *x = arena.at<A>(x_at), *out = arena.at<A>(out_at);
  // Row y lies at slot[y % slots] of its ring. All slots come twice, so that going back K rows from the second copy
  // needs no wrap.
  int64_t* slot = arena.at<int64_t>(slot_at);
  for (int64_t i = 0; i < 2 * slots; ++i) slot[i] = i % slots * x_row;

  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const auto logits = plane<T>(p.logits, p, item, item.group * area);
  const auto lse = lse_plane<A>(p, item);
  const Span columns = clip(item.column - r, pixels + K - 1, item.width);
  const Tile<A> compute = tile_for<A>(K);

  const auto prepare_weights = [&](A* weights, int64_t top, int64_t end) {
    for (int64_t row = top; row < end; ++row) {
      if (reversed) {
        gather_weights(taps, pitch, tap_row, lse_row, wide, p, item, logits, lse, row);
      } else {
        read_logits(taps, pitch, p, item, logits, row);
        if (p.normalize) {
          softmax(taps, pitch, area, scale, lse_row);
          for (int64_t j = 0; j < item.columns; ++j) *lse.at(0, row, item.column + j) = lse_row[j];
        }
      }
      split_tiles(weights + (row - top) * tile_weights, (end - top) * tile_weights, taps, pitch, scale, tiles, area);
    }
  };

  const int64_t item_end = item.row + item.rows;
  // The first slab is swept even without a channel: it writes the log-sum-exp.
  for (int64_t first = 0; first == 0 || first < depth; first += kSlab) {
    int64_t packed = std::max<int64_t>(0, item.row - r);
    for (int64_t top = item.row; top < item_end; top += step) {
      const int64_t end = std::min(top + step, item_end), bottom = std::min(end + r, item.height);
      A* weights = w + (keep_weights ? (top - item.row) * row_weights : 0);
      if (first == 0) prepare_weights(weights, top, end);
      for (int64_t c = first; c < std::min(first + slab, depth); c += chunk) {
        const int64_t channels = std::min(chunk, depth - c);
        A* ring = x + (c - first) / chunk * x_ring;
        for (int64_t y = packed; y < bottom; ++y)
          pack(ring + slot[y % slots], chunk, source.at(c, y, item.column - r), source.c, source.w,
               Span{0, channels, chunk}, columns, A(0));
        // The memory that the next chunk will pack is asked for while the tiles are computed.
        const int64_t next_channels = std::max<int64_t>(0, std::min(chunk, std::min(first + slab, depth) - c - chunk));
        Prefetch next = Prefetch::block(source.at(c + chunk, packed, item.column - r + columns.first), bottom - packed,
                                        source.h, next_channels, source.c, columns.last - columns.first, source.w);
        const int64_t runs = div_up(next.left(), tiles * (end - top));
        const A* tile_w = weights;
        for (int64_t tile = 0; tile < tiles; ++tile)
          for (int64_t row = top; row < end; ++row, tile_w += tile_weights) {
            next.step(runs);
            // Tap row t reads input row row - (t - r).
            const int64_t first_tap = std::max<int64_t>(0, row + r - (item.height - 1));
            const int64_t last_tap = std::min(K, row + r + 1);
            compute(out + ((row - top) * pixels + tile * kTile) * chunk, ring + tile * kTile * chunk,
                    slot + slots + (row + r) % slots, tile_w, K, first_tap, last_tap);
          }
        for (int64_t row = top; row < end; ++row)
          unpack(result.at(c, row, item.column), result.c, result.w, out + (row - top) * pixels * chunk, chunk,
                 channels, item.columns);
      }
      packed = bottom;
    }
  }
}

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

// Packs [channels, columns] as windows: `width` columns from every L-th column on make a vector of [channels, width],
// `apart` elements from one to the next. `lines` is scratch of a row of `wide` columns for every channel.
template <class T, class A = Accumulate<T>>
void pack_windows(A* dst, int64_t apart, int64_t width, int64_t vectors, A* lines, int64_t wide, const T* src,
                  int64_t column_stride, int64_t channel_stride, Span columns, int64_t channels) {
  pack(lines, wide, src, column_stride, channel_stride, columns, Span{0, channels, channels}, A(0));
  for (int64_t b = 0; b < vectors; ++b)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t l = 0; l < width; l += kLanes<A>)
        vstore(dst + b * apart + c * width + l, vload(lines + c * wide + b * kLanes<A> + l));
}

// grad_weight of one item. It is swept downwards once for every chunk of channels, whose windows then stay in L2; the
// gradient accumulates over the chunks, in the order of the channels.
template <class T>
void grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  constexpr int L = kLanes<A>;
  // Rows that are reduced together, and channels: the windows of one vector of pixels stay in L1.
  constexpr int64_t kStep = 4, chunk = 32;
  const int64_t K = p.kernel, r = K / 2, area = K * K, depth = p.channels / p.groups;
  const int64_t vectors = div_up(item.columns, L), pitch = vectors * L;
  const int64_t width = window_width<A>(K), wide = pitch - L + width;
  const int64_t step = std::min(kStep, item.rows), slots = step + K - 1;
  const int64_t x_row = vectors * chunk * width, g_row = vectors * chunk * L;

  Arena arena;
  const size_t dw_at = arena.reserve<A>(item.rows * area * pitch);
  const size_t x_at = arena.reserve<A>(slots * x_row);
  const size_t g_at = arena.reserve<A>(step * g_row);
  const size_t lines_at = arena.reserve<A>(chunk * wide);
  const size_t taps_at = arena.reserve<A>(area * pitch);
  const size_t lse_at = arena.reserve<A>(pitch);
  arena.allocate();
  A *dw = arena.at<A>(dw_at), *x = arena.at<A>(x_at), *g = arena.at<A>(g_at), *lines = arena.at<A>(lines_at);
  A *taps = arena.at<A>(taps_at), *lse_row = arena.at<A>(lse_at);
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
        pack_windows(x + packed % slots * x_row, chunk * width, width, vectors, lines, wide,
                     input.at(c, packed, item.column - r), input.w, input.c, x_columns, channels);
      for (int64_t row = top; row < end; ++row)
        pack_windows(g + (row - top) * g_row, chunk * L, L, vectors, lines, pitch, grad.at(c, row, item.column),
                     grad.w, grad.c, g_columns, channels);
      // The memory that the next step will pack is asked for while the reductions run.
      const int64_t next_end = std::min(end + step, item_end);
      Prefetch next_x = Prefetch::block(input.at(c, packed, item.column - r + x_columns.first),
                                        std::min(next_end + r, item.height) - packed, input.h, channels, input.c,
                                        x_columns.last - x_columns.first, input.w);
      Prefetch next_g = Prefetch::block(grad.at(c, end, item.column), next_end - end, grad.h, channels, grad.c,
                                        item.columns, grad.w);
      const int64_t turns = vectors * div_up(end - top, 2);
      const int64_t x_runs = div_up(next_x.left(), turns), g_runs = div_up(next_g.left(), turns);
      for (int64_t b = 0; b < vectors; ++b)
        for (int64_t row = top; row < end; row += 2) {
          next_x.step(x_runs);
          next_g.step(g_runs);
          const bool pair = row + 1 < end;
          A* dw_row = dw + (row - item.row) * area * pitch + b * L;
          const A* g_rows = g + (row - top) * g_row + b * chunk * L;
          for (int64_t y = std::max<int64_t>(0, row - r); y < std::min(item.height, row + pair + r + 1); ++y) {
            // Input row y is read by tap row t of `row` and by tap row t + 1 of the row below it.
            const int64_t t = row + r - y;
            A *dw0 = dw_row + t * K * pitch, *dw1 = dw_row + (area + (t + 1) * K) * pitch;
            const A* xy = x + y % slots * x_row + b * chunk * width + K - 1;
            if (pair && t >= 0 && t + 1 < K)
              reduce_row<A, 2>(dw0, dw1, pitch, g_rows, g_rows + g_row, xy, width, channels, K);
            else if (t >= 0)
              reduce_row<A, 1>(dw0, dw0, pitch, g_rows, g_rows, xy, width, channels, K);
            else
              reduce_row<A, 1>(dw1, dw1, pitch, g_rows + g_row, g_rows + g_row, xy, width, channels, K);
          }
        }
    }
  }

  const auto logits = plane<T>(p.logits, p, item, item.group * area);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const auto lse = lse_plane<A>(p, item);
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
    unpack(result.at(0, row, item.column), result.w, result.c, dw_row, pitch, item.columns, area);
  }
}

template <class T>
void run_items(Product product, const Problem& p, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    Item item;
    if (!item_at(p, index, item)) continue;
    if (product == Product::grad_weight) grad_weight<T>(p, item);
    else weighted_sum<T>(p, item, product == Product::grad_input);
  }
}

}  // namespace

void run(Product product, const Problem& p, int64_t begin, int64_t end) {
  switch (p.type) {
    case Type::float32: return run_items<float>(product, p, begin, end);
    case Type::float64: return run_items<double>(product, p, begin, end);
    case Type::float16: return run_items<half>(product, p, begin, end);
    case Type::bfloat16: return run_items<bfloat16>(product, p, begin, end);
  }
  throw std::invalid_argument("svconv::cpu::run: expected a Problem of float32, float64, float16 or bfloat16, got type "
                              "number " + std::to_string(int(p.type)));
}

}  // namespace svconv::cpu::SVCONV_ISA

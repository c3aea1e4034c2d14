// The three products on one instruction set. Compiled once per set, into namespace SVCONV_ISA.
//
// An item walks its channels in chunks. For each chunk the input rows of the band and its halo are packed into a
// dense block in the accumulation type, whatever the tensor's layout and type; the inner loops
// (tile.h) know one format only.
#include "item.h"
#include "tile.h"
#include "weights.h"

#ifndef SVCONV_ISA
#define SVCONV_ISA baseline
#endif

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

// [taps, pitch] -> [tiles, taps, kTile]. Stores run over into the next tap, which is written after.
template <class A>
void split_tiles(A* dst, const A* taps, int64_t pitch, int64_t tiles, int64_t area) {
  for (int64_t tile = 0; tile < tiles; ++tile)
    for (int64_t k = 0; k < area; ++k) {
      A* to = dst + (tile * area + k) * kTile;
      const A* from = taps + k * pitch + tile * kTile;
      for (int i = 0; i < kTile; i += kLanes<A>) vstore(to + i, vload(from + i));
    }
}

// forward (reversed = false) and grad_input (reversed = true): the same sum with other weights.
template <class T>
void weighted_sum(const Problem& p, const Item& item, bool reversed) {
  using A = Accumulate<T>;
  constexpr int64_t chunk = kChunk<A>;
  const int64_t K = p.kernel, r = K / 2, area = K * K, depth = p.channels / p.groups;
  const int64_t tiles = div_up(item.columns, kTile), pixels = tiles * kTile;
  const int64_t pitch = div_up(pixels, kLanes<A>) * kLanes<A>;
  const int64_t x_pixels = pixels + K - 1, x_row = x_pixels * chunk;
  const int64_t row_weights = tiles * area * kTile;

  Arena arena;
  const size_t taps_at = arena.reserve<A>(area * pitch + 2 * kLanes<A>);
  const size_t lse_at = arena.reserve<A>(pitch + K - 1);
  const size_t w_at = arena.reserve<A>(item.rows * row_weights + 2 * kLanes<A>);
  const size_t x_at = arena.reserve<A>((item.rows + K - 1) * x_row);
  const size_t out_at = arena.reserve<A>(item.rows * pixels * chunk);
  arena.allocate();
  A *taps = arena.at<A>(taps_at), *lse_row = arena.at<A>(lse_at), *w = arena.at<A>(w_at);
  A *x = arena.at<A>(x_at), *out = arena.at<A>(out_at);

  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const Span x_columns = clip(item.column - r, x_pixels, item.width);
  const Span x_rows = clip(item.row - r, item.rows + K - 1, item.height);
  // What pack() will read for the channels from c on.
  const auto prefetch_chunk = [&](int64_t c) {
    const int64_t channels = std::max<int64_t>(0, std::min(chunk, depth - c));
    return Prefetch::block(source.at(c, item.row - r + x_rows.first, item.column - r + x_columns.first),
                           x_rows.last - x_rows.first, source.h, channels, source.c,
                           x_columns.last - x_columns.first, source.w);
  };

  const auto logits = plane<T>(p.logits, p, item, item.group * area);
  const auto lse = lse_plane<A>(p, item);
  Prefetch first_chunk = prefetch_chunk(0);
  const int64_t runs_per_row = div_up(first_chunk.left(), item.rows);
  for (int64_t i = 0; i < item.rows; ++i) {
    const int64_t row = item.row + i;
    first_chunk.step(runs_per_row);
    prefetch_logits(p, item, logits, row + 1);
    if (reversed) {
      gather_weights(taps, pitch, p, item, logits, lse, lse_row, row);
    } else {
      read_logits(taps, pitch, p, item, logits, row);
      if (p.normalize) {
        softmax(taps, pitch, area, lse_row);
        for (int64_t j = 0; j < item.columns; ++j) *lse.at(0, row, item.column + j) = lse_row[j];
      }
    }
    split_tiles(w + i * row_weights, taps, pitch, tiles, area);
  }

  const Tile<A> compute = tile_for<A>(K);
  for (int64_t c = 0; c < depth; c += chunk) {
    const int64_t channels = std::min(chunk, depth - c);
    for (int64_t i = x_rows.first; i < x_rows.last; ++i) {
      const int64_t y = item.row - r + i;
      pack(x + i * x_row, chunk, source.at(c, y, item.column - r), source.c, source.w, Span{0, channels, chunk},
           x_columns, A(0));
    }
    Prefetch next = prefetch_chunk(c + chunk);
    const int64_t runs_per_tile = div_up(next.left(), tiles * item.rows);
    // Down a column of tiles: the rows of input that a tile reads stay in L1 for the next one.
    for (int64_t tile = 0; tile < tiles; ++tile)
      for (int64_t i = 0; i < item.rows; ++i) {
        const int64_t row = item.row + i;
        next.step(runs_per_tile);
        // Tap row t reads input row row - (t - r).
        const int64_t first = std::max<int64_t>(0, row + r - (item.height - 1));
        const int64_t last = std::min(K, row + r + 1);
        compute(out + (i * pixels + tile * kTile) * chunk, x + (i + K - 1) * x_row + tile * kTile * chunk, x_row,
                w + i * row_weights + tile * area * kTile, K, first, last);
      }
    for (int64_t i = 0; i < item.rows; ++i)
      unpack(result.at(c, item.row + i, item.column), result.c, result.w, out + i * pixels * chunk, chunk, channels,
             item.columns);
  }
}

// grad_logits = w * (dw - delta), delta = sum over taps of w * dw; in place of dw.
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

template <class T>
void grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  constexpr int L = kLanes<A>;
  // Channels whose windows stay in L2 beside dw.
  constexpr int64_t chunk = 32;
  const int64_t K = p.kernel, r = K / 2, area = K * K, depth = p.channels / p.groups;
  const int64_t vectors = div_up(item.columns, L), pitch = vectors * L;
  const int64_t width = window_width<A>(K);
  // An odd number of windows a row: for K = 9 a power of two would put all nine rows on the same half of L1's sets.
  const int64_t x_row = (vectors | 1) * chunk * width, g_row = vectors * chunk * L;

  Arena arena;
  const size_t dw_at = arena.reserve<A>(item.rows * area * pitch);
  const size_t x_at = arena.reserve<A>((item.rows + K - 1) * x_row);
  const size_t g_at = arena.reserve<A>(item.rows * g_row);
  const size_t taps_at = arena.reserve<A>(area * pitch);
  const size_t lse_at = arena.reserve<A>(pitch);
  arena.allocate();
  A *dw = arena.at<A>(dw_at), *x = arena.at<A>(x_at), *g = arena.at<A>(g_at);
  A *taps = arena.at<A>(taps_at), *lse_row = arena.at<A>(lse_at);
  fill(dw, item.rows * area * pitch, A(0));

  const auto input = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const Span x_rows = clip(item.row - r, item.rows + K - 1, item.height);
  const Span x_columns = clip(item.column - r, pitch + K - 1, item.width);
  for (int64_t c = 0; c < depth; c += chunk) {
    const int64_t channels = std::min(chunk, depth - c);
    // A few channels at a time, so that neighbouring windows find their lines in L1.
    for (int64_t part = 0; part < channels; part += 8) {
      const Span few{0, std::min<int64_t>(8, channels - part), std::min<int64_t>(8, channels - part)};
      for (int64_t i = x_rows.first; i < x_rows.last; ++i)
        for (int64_t b = 0; b < vectors; ++b) {
          const int64_t column = item.column + b * L - r;
          pack(x + i * x_row + (b * chunk + part) * width, width, input.at(c + part, item.row - r + i, column),
               input.w, input.c, clip(column, width, item.width), few, A(0));
        }
      for (int64_t i = 0; i < item.rows; ++i)
        for (int64_t b = 0; b < vectors; ++b) {
          const int64_t column = item.column + b * L;
          pack(g + i * g_row + (b * chunk + part) * L, L, grad.at(c + part, item.row + i, column), grad.w, grad.c,
               clip(column, L, item.width), few, A(0));
        }
    }
    const int64_t ahead = std::max<int64_t>(0, std::min(chunk, depth - c - chunk));
    Prefetch next_x = Prefetch::block(
        input.at(c + chunk, item.row - r + x_rows.first, item.column - r + x_columns.first),
        x_rows.last - x_rows.first, input.h, ahead, input.c, x_columns.last - x_columns.first, input.w);
    Prefetch next_g = Prefetch::block(grad.at(c + chunk, item.row, item.column), item.rows, grad.h, ahead, grad.c,
                                      item.columns, grad.w);
    const int64_t x_runs = div_up(next_x.left(), vectors * item.rows);
    const int64_t g_runs = div_up(next_g.left(), vectors * item.rows);
    for (int64_t b = 0; b < vectors; ++b)
      for (int64_t i = 0; i < item.rows; ++i) {
        next_x.step(x_runs);
        next_g.step(g_runs);
        const int64_t row = item.row + i;
        const int64_t first = std::max<int64_t>(0, row + r - (item.height - 1));
        const int64_t last = std::min(K, row + r + 1);
        for (int64_t t = first; t < last; ++t)
          reduce_row(dw + (i * area + t * K) * pitch + b * L, pitch, g + i * g_row + b * chunk * L,
                     x + (i + K - 1 - t) * x_row + b * chunk * width, width, channels, K);
      }
  }

  const auto logits = plane<T>(p.logits, p, item, item.group * area);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const auto lse = lse_plane<A>(p, item);
  for (int64_t i = 0; i < item.rows; ++i) {
    const int64_t row = item.row + i;
    A* dw_row = dw + i * area * pitch;
    prefetch_logits(p, item, logits, row + 1);
    if (p.normalize) {
      read_logits(taps, pitch, p, item, logits, row);
      pack(lse_row, 0, static_cast<const A*>(lse.at(0, row, item.column)), lse.w, 0, Span{0, item.columns, pitch},
           Span{0, 1, 1}, A(0));
      for (int64_t k = 0; k < area; ++k) exponentiate(taps + k * pitch, lse_row, pitch);
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
}

}  // namespace svconv::cpu::SVCONV_ISA

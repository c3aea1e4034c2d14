// Both gradients on windows that aren't plain (window.h).
#pragma once

#include "windowed.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Weights that lie side by side both in a row of taps, from `from` on, and in the tile that they go to, from `to` on; a
// tile's weights of the next term lie `step` further.
struct Run {
  int64_t from, to, step, length;
};

// Every pixel of the input sums up, over the places of the result whose windows hold it, weight times gradient. The
// places that read it lie side by side in rows and columns, `first` and how many there are.
template <class T>
void window_grad_input(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, 1);
  const int64_t K = own.K, depth = own.depth, lanes = kChunk<A>;
  const Axis &rows = own.rows, &columns = own.columns;
  const int64_t tiles = divide_up(item.columns, kTile), pixels = tiles * kTile;

  // Sizes: the most places that read a row, and a column of each tile.
  int64_t terms = 0, widest = 0, lo = columns.places(), hi = 0;
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    const Readers by = readers(rows, row);
    terms = std::max(terms, by.last - by.first);
  }
  for (int64_t j = 0; j < item.columns; ++j) {
    const Readers by = readers(columns, item.column + j);
    lo = std::min(lo, by.first);
    hi = std::max(hi, by.last);
    widest = std::max(widest, by.last - by.first);
  }
  const int64_t count = std::max<int64_t>(0, hi - lo), wide = divide_up(count, kLanes<A>) * kLanes<A>;
  const int64_t most = std::max(widest, K), row_size = (count + kTile + most) * lanes;
  const int64_t tile_weights = terms * most * kTile;

  Arena arena;
  A* const tap_rows = arena.array<A>(K * wide);                     // [K, wide]
  A* const lse_row = arena.array<A>(wide);                          // [wide]
  A* const weights = arena.array<A>(tiles * tile_weights);          // [tiles, terms, extent, kTile]
  A* const g = arena.array<A>(terms * row_size);                    // [terms, row_size]
  A* const out = arena.array<A>(pixels * lanes);                    // [pixels, lanes]
  int64_t* const slots = arena.array<int64_t>(terms);               // where each term's row of g lies
  int64_t* const offsets = arena.array<int64_t>(pixels);            // where each pixel's places begin in such a row
  int64_t* const bases = arena.array<int64_t>(pixels);              // where each pixel's weights begin
  int64_t* const steps = arena.array<int64_t>(pixels);              // from each pixel's weight of a term to the next
  int64_t* const extents = arena.array<int64_t>(tiles);             // places that a tile's pixels are read by, at most
  Run* const every_run = arena.array<Run>(K * wide);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t real = std::min<int64_t>(kTile, item.columns - tile * kTile);
    int64_t extent = 1;
    for (int64_t q = 0; q < kTile; ++q) {
      const Readers by = readers(columns, item.column + tile * kTile + std::min(q, real - 1));
      offsets[tile * kTile + q] = (by.first - lo) * lanes;
      extent = std::max(extent, by.last - by.first);
    }
    // The loop of plain windows takes K columns.
    if (in_a_row<A>(offsets + tile * kTile, real) && extent < K) extent = K;
    extents[tile] = extent;
    for (int64_t q = 0; q < real; ++q) {
      const int64_t j = tile * kTile + q;
      bases[j] = tile * tile_weights + (extent - 1 + offsets[j] / lanes) * kTile + q;
      steps[j] = extent * kTile;
    }
  }
  int64_t runs = 0;
  for (int64_t s = 0; s < K; ++s)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t x = columns.read(lo + j, s) - item.column;
      if (x < 0 || x >= item.columns) continue;
      const Run one{(p.correlation ? K - 1 - s : s) * wide + j, bases[x] - j * kTile, steps[x], 1};
      Run* const before = runs > 0 ? every_run + runs - 1 : nullptr;
      if (before && one.from == before->from + before->length && one.to == before->to + before->length &&
          one.step == before->step)
        ++before->length;
      else every_run[runs++] = one;
    }

  const auto grad = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const Tile<A> compute = tile_for<A>(K);
  const Axis whole{columns.places(), 1, 0, Border::zeros};
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    const Readers by = readers(rows, row);
    for (int64_t tile = 0; tile < tiles; ++tile)
      fill(weights + tile * tile_weights, (by.last - by.first) * extents[tile] * kTile, A(0));
    for (int64_t i = by.first; i < by.last; ++i) {
      const int64_t term = i - by.first;
      // The first term comes last: rows are counted backwards.
      slots[terms - 1 - term] = term * row_size;
      if (p.normalize)
        pack(lse_row, wide, static_cast<const A*>(own.lse.at(0, i, lo)), own.lse.w, 0, Span{0, count, wide},
             Span{0, 1, 1}, A(0));
      for (int64_t t = 0; t < K; ++t) {
        if (rows.read(i, t) != row) continue;
        const int64_t block = p.correlation ? K - 1 - t : t;
        pack(tap_rows, wide, static_cast<const T*>(own.logits.at(block * K, i, lo)), own.logits.w, own.logits.c,
             Span{0, count, wide}, Span{0, K, K}, A(0));
        for (int64_t s = 0; p.normalize && s < K; ++s)
          exponentiate(tap_rows + s * wide, tap_rows + s * wide, lse_row, wide);
        for (const Run* run = every_run; run < every_run + runs; ++run) {
          A* __restrict to = weights + run->to + term * run->step;
          const A* __restrict from = tap_rows + run->from;
          if (run->length == kTile)
            for (int k = 0; k < kTile; ++k) to[k] += from[k];
          else
            for (int64_t k = 0; k < run->length; ++k) to[k] += from[k];
        }
      }
    }
    for (int64_t c = 0; c < depth; c += lanes) {
      const int64_t channels = std::min(lanes, depth - c);
      for (int64_t i = by.first; i < by.last; ++i) {
        A* packed = g + (i - by.first) * row_size;
        pack_positions(packed, lanes, grad, c, channels, i, whole, lo, count, false);
        fill(packed + count * lanes, row_size - count * lanes, A(0));
      }
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t *starts = offsets + tile * kTile, *slot = slots + terms - 1;
        const int64_t extent = extents[tile], real = std::min<int64_t>(kTile, item.columns - tile * kTile);
        A* sums = out + tile * kTile * lanes;
        const A* of_tile = weights + tile * tile_weights;
        if (extent == K && in_a_row<A>(starts, real))
          compute(sums, g + starts[0], slot, of_tile, K, 0, by.last - by.first);
        else
          tile_at(sums, g, slot, starts, of_tile, extent, 0, by.last - by.first);
      }
      unpack(result.at(c, row, item.column), result.c, result.w, out, lanes, channels, item.columns);
    }
  }
}

// dw[s * pitch] += sum over c of g[c] * x[c, -s * step] for TAPS vectors of pixels.
template <class A, int TAPS>
void reduce_at(A* dw, int64_t pitch, const A* g, const A* x, int64_t step, int64_t width, int64_t channels) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[TAPS];
#pragma GCC unroll 16
  for (int s = 0; s < TAPS; ++s) acc[s] = vload(dw + s * pitch);
  for (int64_t c = 0; c < channels; ++c, x += width) {
    const Vec<A> gc = vload(g + c * L);
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) acc[s] += gc * vload(x - s * step);
  }
#pragma GCC unroll 16
  for (int s = 0; s < TAPS; ++s) vstore(dw + s * pitch, acc[s]);
}

template <class A>
void reduce_row_at(A* dw, int64_t pitch, const A* g, const A* x, int64_t step, int64_t width, int64_t channels,
                   int64_t K) {
  int64_t s = 0;
  for (; s + 4 <= K; s += 4) reduce_at<A, 4>(dw + s * pitch, pitch, g, x - s * step, step, width, channels);
  switch (K - s) {
    case 1: return reduce_at<A, 1>(dw + s * pitch, pitch, g, x - s * step, step, width, channels);
    case 2: return reduce_at<A, 2>(dw + s * pitch, pitch, g, x - s * step, step, width, channels);
    case 3: return reduce_at<A, 3>(dw + s * pitch, pitch, g, x - s * step, step, width, channels);
  }
}

template <class T>
void window_grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  constexpr int L = kLanes<A>;
  constexpr int64_t kStep = 4, kChannels = 32;
  const Windowed<T> own(p, item, p.scale);
  const int64_t K = own.K, r = own.r, area = own.area, depth = own.depth;
  const Axis &rows = own.rows, &columns = own.columns;
  const int64_t vectors = divide_up(item.columns, L), pitch = vectors * L, step = std::min(kStep, item.rows);
  const int64_t lo = columns.centre(item.column) - r;
  const int64_t count = columns.centre(item.column + item.columns - 1) + r + 1 - lo;
  // A vector of pixels reads a window of columns, or where its pixels don't lie in a row, a vector for every tap.
  const int64_t window = window_width<A>(K), spread = K * L, most = std::max(window, spread);
  const int64_t x_row = vectors * kChannels * most, g_row = vectors * kChannels * L;
  const auto centre = [&](int64_t j) { return columns.centre(item.column + std::min(j, item.columns - 1)) - lo; };
  const auto is_spread = [&](int64_t b) {
    for (int64_t l = 1; l < L && b * L + l < item.columns; ++l)
      if (centre(b * L + l) != centre(b * L) + l) return true;
    return false;
  };

  // A line holds the columns of a row of input, or of the gradient, of which there are more at a scale.
  const int64_t line = std::max(count, pitch) + L + window;
  Arena arena;
  A* const dw = arena.array<A>(step * area * pitch);       // [step, K * K, pitch]
  A* const x = arena.array<A>((step + K - 1) * x_row);     // [step + K - 1, vectors, kChannels, most]
  A* const g = arena.array<A>(step * g_row);               // [step, vectors, kChannels, lanes]
  A* const lines = arena.array<A>(kChannels * line);       // [kChannels, line]
  A* const taps = arena.array<A>(area * pitch);            // [K * K, pitch]
  A* const lse_row = arena.array<A>(pitch);                // [pitch]
  const auto input = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const Axis whole{columns.places(), 1, 0, Border::zeros};
  // Rows of input lie in a ring. A row is packed once, or with several chunks of channels once for each step.
  const int64_t slots = step + K - 1, topmost = rows.centre(item.row) - r;
  const auto slot = [&](int64_t y) { return x + (y - topmost) % slots * x_row; };
  int64_t packed = topmost;

  for (int64_t top = item.row; top < item.row + item.rows; top += step) {
    const int64_t end = std::min(top + step, item.row + item.rows), base = rows.centre(top) - r;
    const int64_t bottom = rows.centre(end - 1) + r + 1;
    fill(dw, step * area * pitch, A(0));
    for (int64_t c = 0; c < depth; c += kChannels) {
      const int64_t channels = std::min(kChannels, depth - c);
      for (int64_t y = depth > kChannels ? base : packed; y < bottom; ++y) {
        pack_positions(lines, line, input, c, channels, rows.at(y), columns, lo, count, true);
        for (int64_t b = 0; b < vectors; ++b) {
          A* to = slot(y) + b * kChannels * most;
          if (is_spread(b)) {
            // From one pixel to the next a window moves by one column or not at all.
            const A* from = lines + centre(b * L) - r;
            Lanes<A> index = {};
            for (int64_t l = 0; l < L; ++l) index[l] = centre(b * L + l) - centre(b * L);
            for (int64_t k = 0; k < channels; ++k)
              for (int64_t m = 0; m < K; ++m)
                vstore(to + k * spread + m * L, permute<A>(vload(from + k * line + m), index));
          } else {
            const A* from = lines + centre(b * L) - r;
            for (int64_t k = 0; k < channels; ++k)
              for (int64_t l = 0; l < window; l += L) vstore(to + k * window + l, vload(from + k * line + l));
          }
        }
      }
      for (int64_t row = top; row < end; ++row) {
        pack_positions(lines, line, grad, c, channels, row, whole, item.column, item.columns, true);
        for (int64_t b = 0; b < vectors; ++b)
          for (int64_t k = 0; k < channels; ++k)
            vstore(g + (row - top) * g_row + (b * kChannels + k) * L, vload(lines + k * line + b * L));
      }
      for (int64_t b = 0; b < vectors; ++b) {
        const bool apart = is_spread(b);
        const int64_t between = apart ? L : 1, width = apart ? spread : window;
        for (int64_t row = top; row < end; ++row) {
          int64_t first, last;
          own.tap_rows(row, first, last);
          for (int64_t t = first; t < last; ++t) {
            const int64_t tap = own.stored(t * K);
            reduce_row_at(dw + ((row - top) * area + tap) * pitch + b * L, p.correlation ? -pitch : pitch,
                          g + (row - top) * g_row + b * kChannels * L,
                          slot(rows.centre(row) + r - t) + b * kChannels * most + (K - 1) * between, between, width,
                          channels, K);
          }
        }
      }
    }
    packed = bottom;
    for (int64_t row = top; row < end; ++row) {
      A* dw_row = dw + (row - top) * area * pitch;
      if (p.normalize) {
        own.read_logits_of(taps, pitch, row);
        pack(lse_row, pitch, static_cast<const A*>(own.lse.at(0, row, item.column)), own.lse.w, 0,
             Span{0, item.columns, pitch}, Span{0, 1, 1}, A(0));
        for (int64_t k = 0; k < area; ++k)
          exponentiate(taps + k * pitch, taps + k * pitch, lse_row, pitch);
        softmax_backward(dw_row, taps, pitch, area);
      }
      unpack(result.at(0, row, item.column), result.w, result.c, dw_row, pitch, item.columns, area);
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// grad_weight on windows that aren't plain (window.h).
#pragma once

#include "windowed.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

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
  struct Arrays { A *dw, *x, *g, *lines, *taps, *lse_row; };
  const auto arrays = in_scratch([&](Arena& arena) {
    return Arrays{arena.array<A>(step * area * pitch), arena.array<A>((step + K - 1) * x_row),
                  arena.array<A>(step * g_row), arena.array<A>(kChannels * line),
                  arena.array<A>(area * pitch), arena.array<A>(pitch)};
  });
  const auto input = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const Axis whole{columns.places(), 1, 0, Border::zeros};
  // Rows of input lie in a ring. A row is packed once, or with several chunks of channels once for each step.
  const int64_t slots = step + K - 1, topmost = rows.centre(item.row) - r;
  const auto slot = [&](int64_t y) { return arrays.x + (y - topmost) % slots * x_row; };
  int64_t packed = topmost;

  for (int64_t top = item.row; top < item.row + item.rows; top += step) {
    const int64_t end = std::min(top + step, item.row + item.rows), base = rows.centre(top) - r;
    const int64_t bottom = rows.centre(end - 1) + r + 1;
    fill(arrays.dw, step * area * pitch, A(0));
    for (int64_t c = 0; c < depth; c += kChannels) {
      const int64_t channels = std::min(kChannels, depth - c);
      for (int64_t y = depth > kChannels ? base : packed; y < bottom; ++y) {
        pack_positions(arrays.lines, line, input, c, channels, rows.at(y), columns, lo, count, true);
        for (int64_t b = 0; b < vectors; ++b) {
          A* to = slot(y) + b * kChannels * most;
          if (is_spread(b)) {
            // From one pixel to the next a window moves by one column or not at all.
            const A* from = arrays.lines + centre(b * L) - r;
            Lanes<A> index = {};
            for (int64_t l = 0; l < L; ++l) index[l] = centre(b * L + l) - centre(b * L);
            for (int64_t k = 0; k < channels; ++k)
              for (int64_t m = 0; m < K; ++m)
                vstore(to + k * spread + m * L, permute<A>(vload(from + k * line + m), index));
          } else {
            const A* from = arrays.lines + centre(b * L) - r;
            for (int64_t k = 0; k < channels; ++k)
              for (int64_t l = 0; l < window; l += L) vstore(to + k * window + l, vload(from + k * line + l));
          }
        }
      }
      for (int64_t row = top; row < end; ++row) {
        pack_positions(arrays.lines, line, grad, c, channels, row, whole, item.column, item.columns, true);
        for (int64_t b = 0; b < vectors; ++b)
          for (int64_t k = 0; k < channels; ++k)
            vstore(arrays.g + (row - top) * g_row + (b * kChannels + k) * L, vload(arrays.lines + k * line + b * L));
      }
      for (int64_t b = 0; b < vectors; ++b) {
        const bool apart = is_spread(b);
        const int64_t between = apart ? L : 1, width = apart ? spread : window;
        for (int64_t row = top; row < end; ++row) {
          int64_t first, last;
          own.tap_rows(row, first, last);
          for (int64_t t = first; t < last; ++t) {
            const int64_t tap = own.stored(t * K);
            reduce_row_at(arrays.dw + ((row - top) * area + tap) * pitch + b * L, p.correlation ? -pitch : pitch,
                          arrays.g + (row - top) * g_row + b * kChannels * L,
                          slot(rows.centre(row) + r - t) + b * kChannels * most + (K - 1) * between, between, width,
                          channels, K);
          }
        }
      }
    }
    packed = bottom;
    for (int64_t row = top; row < end; ++row) {
      A* dw = arrays.dw + (row - top) * area * pitch;
      if (p.normalize) {
        own.read_logits_of(arrays.taps, pitch, row);
        pack(arrays.lse_row, pitch, static_cast<const A*>(own.lse.at(0, row, item.column)), own.lse.w, 0,
             Span{0, item.columns, pitch}, Span{0, 1, 1}, A(0));
        for (int64_t k = 0; k < area; ++k)
          exponentiate(arrays.taps + k * pitch, arrays.taps + k * pitch, arrays.lse_row, pitch);
        softmax_backward(dw, arrays.taps, pitch, area);
      }
      unpack(result.at(0, row, item.column), result.w, result.c, dw, pitch, item.columns, area);
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

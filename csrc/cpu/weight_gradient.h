// grad_weight on plain windows: sums over channels, for every tap of every pixel.
#pragma once

#include "arena.h"
#include "item.h"
#include "tile.h"
#include "weights.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

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

  Arena arena;
  A* const dw = arena.array<A>(item.rows * area * pitch);  // [rows of the item, K * K, pitch]
  A* const x = arena.array<A>(slots * x_row);              // [slots, channels, wide], the ring of input rows
  A* const g = arena.array<A>(step * g_row);               // [step, vectors, channels, lanes]
  A* const lines = arena.array<A>(deepest * pitch);        // [channels, pitch]
  A* const taps = arena.array<A>(area * pitch);            // [K * K, pitch]
  A* const lse_row = arena.array<A>(pitch);                // [pitch]
  fill(dw, item.rows * area * pitch, A(0));

  const auto input = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const Span x_columns = clip(item.column - r, wide, item.width), g_columns{0, item.columns, pitch};
  const int64_t first_row = std::max<int64_t>(0, item.row - r), item_end = item.row + item.rows;
  for (int64_t c = 0; c < depth; c += chunk) {
    const int64_t channels = std::min(chunk, depth - c);
    int64_t packed = first_row;
    for (int64_t top = item.row; top < item_end; top += step) {
      const int64_t end = std::min(top + step, item_end), bottom = std::min(end + r, item.height);
      for (; packed < bottom; ++packed)
        pack(x + packed % slots * x_row, wide, input.at(c, packed, item.column - r), input.w, input.c, x_columns,
             Span{0, channels, channels}, A(0));
      for (int64_t row = top; row < end; ++row)
        pack_vectors(g + (row - top) * g_row, deepest * L, vectors, lines, grad.at(c, row, item.column), grad.w, grad.c,
                     g_columns, channels);
      // The memory that the next step will pack, here or in the next chunk, is asked for while the reductions run.
      const bool last_step = end == item_end;
      const int64_t next_top = last_step ? item.row : end, next_end = std::min(next_top + step, item_end);
      const int64_t next_packed = last_step ? first_row : packed;
      const int64_t next_c = last_step ? c + chunk : c;
      const int64_t next_channels = std::clamp<int64_t>(depth - next_c, 0, chunk);
      Prefetch next_x = Prefetch::block(input.at(next_c, next_packed, item.column - r + x_columns.first),
                                        std::min(next_end + r, item.height) - next_packed, input.h, next_channels,
                                        input.c, x_columns.last - x_columns.first, input.w);
      Prefetch next_g = Prefetch::block(grad.at(next_c, next_top, item.column), next_end - next_top, grad.h,
                                        next_channels, grad.c, item.columns, grad.w);
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
      // The logits of the next row are on their way while the exponentials of this one are taken.
      if (i + 1 < item.rows)
        Prefetch::block(logits.at(0, row + 1, item.column), 1, logits.h, area, logits.c, item.columns, logits.w).all();
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

// forward and grad_input of windows that aren't plain, where a group has few channels, such as flow or disparity: a
// vector holds pixels, for channels would not fill one. Columns are laid out as each tap reads them, once for all rows
// of taps that read the row.
#pragma once

#include "windowed.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Channels of a group up to which a vector holds pixels. With more, vectors of channels share their loads of weights.
constexpr int64_t kNarrow = 8;

// sums[c * pitch] += sum over taps of w[tap * w_pitch] * x[c, tap * pitch] for CHANNELS channels of one row of taps,
// `apart` elements from one channel of x to the next.
template <class A, int CHANNELS>
void sum_taps(A* sums, int64_t pitch, const A* w, int64_t w_pitch, const A* x, int64_t apart, int64_t K) {
  for (int64_t l = 0; l < pitch; l += kLanes<A>) {
    Vec<A> acc[CHANNELS];
    for (int c = 0; c < CHANNELS; ++c) acc[c] = vload(sums + c * pitch + l);
    for (int64_t s = 0; s < K; ++s) {
      const Vec<A> weight = vload(w + s * w_pitch + l);
      for (int c = 0; c < CHANNELS; ++c) acc[c] += weight * vload(x + c * apart + s * pitch + l);
    }
    for (int c = 0; c < CHANNELS; ++c) vstore(sums + c * pitch + l, acc[c]);
  }
}

// One channel or two at a time: flow has two.
template <class A>
void sum_taps_of(A* sums, int64_t pitch, const A* w, int64_t w_pitch, const A* x, int64_t apart, int64_t K,
                 int64_t channels) {
  int64_t c = 0;
  for (; c + 2 <= channels; c += 2) sum_taps<A, 2>(sums + c * pitch, pitch, w, w_pitch, x + c * apart, apart, K);
  if (c < channels) sum_taps<A, 1>(sums + c * pitch, pitch, w, w_pitch, x + c * apart, apart, K);
}

template <class T>
void narrow_forward(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, p.scale);
  const int64_t K = own.K, r = own.r, area = own.area, depth = own.depth;
  const Axis &rows = own.rows, &columns = own.columns;
  const int64_t pitch = divide_up(item.columns, kLanes<A>) * kLanes<A>;
  const int64_t lo = columns.centre(item.column) - r;
  const int64_t count = columns.centre(item.column + item.columns - 1) + r + 1 - lo;
  const int64_t apart = K * pitch, row_size = depth * apart;

  struct Arrays { A *taps, *scale, *lse_row, *line, *x, *out; };
  const auto arrays = in_scratch([&](Arena& arena) {
    return Arrays{arena.array<A>(area * pitch), arena.array<A>(pitch), arena.array<A>(pitch),
                  arena.array<A>(depth * count), arena.array<A>(K * row_size), arena.array<A>(depth * pitch)};
  });
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  fill(arrays.x, K * row_size, A(0));
  fill(arrays.scale, pitch, A(1));

  // The row at position y lies in slot (y - base) % K.
  const int64_t base = rows.centre(item.row) - r;
  int64_t packed = base;
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    const int64_t top = rows.centre(row) + r;
    for (; packed <= top; ++packed) {
      pack_positions(arrays.line, count, source, 0, depth, rows.at(packed), columns, lo, count, true);
      A* to = arrays.x + (packed - base) % K * row_size;
      for (int64_t c = 0; c < depth; ++c)
        for (int64_t j = 0; j < item.columns; ++j) {
          const A* from = arrays.line + c * count + columns.centre(item.column + j) - r - lo;
          // Tap s reads K - 1 - s columns from the window's first.
          for (int64_t s = 0; s < K; ++s) to[c * apart + s * pitch + j] = from[K - 1 - s];
        }
    }
    own.read_logits_of(arrays.taps, pitch, row);
    if (p.normalize) {
      softmax(arrays.taps, pitch, area, arrays.scale, p.lse ? arrays.lse_row : nullptr);
      if (p.lse)
        for (int64_t j = 0; j < item.columns; ++j) *own.lse.at(0, row, item.column + j) = arrays.lse_row[j];
    }
    fill(arrays.out, depth * pitch, A(0));
    int64_t first, last;
    own.tap_rows(row, first, last);
    for (int64_t t = first; t < last; ++t)
      sum_taps_of(arrays.out, pitch, arrays.taps + own.stored(t * K) * pitch, p.correlation ? -pitch : pitch,
                  arrays.x + (top - t - base) % K * row_size, apart, K, depth);
    for (int64_t c = 0; c < depth; ++c)
      for (int64_t l = 0; l < pitch; l += kLanes<A>) {
        A* out = arrays.out + c * pitch + l;
        vstore(out, vload(out) * vload(arrays.scale + l));
      }
    unpack(result.at(0, row, item.column), result.w, result.c, arrays.out, pitch, item.columns, depth);
  }
}

// Gradients times weights are summed up for every tap and place of a row, then brought to the pixels that they read.
template <class T>
void narrow_grad_input(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, 1);
  const int64_t K = own.K, depth = own.depth;
  const Axis &rows = own.rows, &columns = own.columns;
  int64_t lo = columns.places(), hi = 0;
  for (int64_t j = 0; j < item.columns; ++j) {
    const Readers by = readers(columns, item.column + j);
    lo = std::min(lo, by.first);
    hi = std::max(hi, by.last);
  }
  const int64_t count = std::max<int64_t>(0, hi - lo), pitch = divide_up(count, kLanes<A>) * kLanes<A>;

  struct Arrays { A *taps, *lse_row, *g, *sums, *out; };
  const auto arrays = in_scratch([&](Arena& arena) {
    return Arrays{arena.array<A>(K * pitch), arena.array<A>(pitch), arena.array<A>(depth * pitch),
                  arena.array<A>(depth * K * pitch), arena.array<A>(depth * item.columns)};
  });
  const auto grad = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    fill(arrays.sums, depth * K * pitch, A(0));
    const Readers by = readers(rows, row);
    for (int64_t i = by.first; i < by.last; ++i) {
      pack(arrays.g, pitch, grad.at(0, i, lo), grad.w, grad.c, Span{0, count, pitch}, Span{0, depth, depth}, A(0));
      if (p.normalize)
        pack(arrays.lse_row, pitch, static_cast<const A*>(own.lse.at(0, i, lo)), own.lse.w, 0, Span{0, count, pitch},
             Span{0, 1, 1}, A(0));
      for (int64_t t = 0; t < K; ++t) {
        if (rows.read(i, t) != row) continue;
        const int64_t block = p.correlation ? K - 1 - t : t;
        pack(arrays.taps, pitch, static_cast<const T*>(own.logits.at(block * K, i, lo)), own.logits.w, own.logits.c,
             Span{0, count, pitch}, Span{0, K, K}, A(0));
        for (int64_t s = 0; s < K; ++s) {
          A* taps = arrays.taps + s * pitch;
          if (p.normalize) exponentiate(taps, taps, arrays.lse_row, pitch);
          for (int64_t c = 0; c < depth; ++c)
            for (int64_t l = 0; l < pitch; l += kLanes<A>) {
              A* sum = arrays.sums + (c * K + s) * pitch + l;
              vstore(sum, vload(sum) + vload(taps + l) * vload(arrays.g + c * pitch + l));
            }
        }
      }
    }
    fill(arrays.out, depth * item.columns, A(0));
    for (int64_t s = 0; s < K; ++s)
      for (int64_t j = 0; j < count; ++j) {
        const int64_t x = columns.read(lo + j, p.correlation ? K - 1 - s : s) - item.column;
        if (x < 0 || x >= item.columns) continue;
        for (int64_t c = 0; c < depth; ++c) arrays.out[c * item.columns + x] += arrays.sums[(c * K + s) * pitch + j];
      }
    unpack(result.at(0, row, item.column), result.w, result.c, arrays.out, item.columns, item.columns, depth);
  }
}

template <class T>
void run_windowed(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  const Problem frame = frame_of(product, p);
  const bool narrow = p.channels / p.groups <= kNarrow;
  for (int64_t index = begin; index < end; ++index) {
    Item item;
    if (!item_at(frame, plan, index, item)) continue;
    switch (product) {
      case Product::forward: narrow ? narrow_forward<T>(p, item) : window_forward<T>(p, item); break;
      case Product::grad_input: narrow ? narrow_grad_input<T>(p, item) : window_grad_input<T>(p, item); break;
      case Product::grad_weight: window_grad_weight<T>(p, item); break;
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// Makes the weights of one row of pixels from its logits: [K * K taps, pitch pixels], pitch a multiple of the vector.
#pragma once

#include "item.h"

#include <limits>

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Writes -inf to every tap whose input position lies outside the frame.
template <class A>
void exclude_outside(A* taps, int64_t pitch, const Item& item, int64_t row, int64_t K) {
  const A excluded = -std::numeric_limits<A>::infinity();
  const int64_t r = K / 2;
  for (int64_t t = 0; t < K; ++t) {
    const int64_t y = row - (t - r);
    for (int64_t s = 0; s < K; ++s) {
      A* tap = taps + (t * K + s) * pitch;
      const Span inside = clip(item.column - (s - r), item.columns, item.width);
      const bool row_inside = y >= 0 && y < item.height;
      fill(tap, row_inside ? inside.first : item.columns, excluded);
      if (row_inside) fill(tap + inside.last, item.columns - inside.last, excluded);
    }
  }
}

// Reads the logits of `row`, as the softmax sees them.
template <class T, class A = Accumulate<T>>
void read_logits(A* taps, int64_t pitch, const Problem& p, const Item& item, Plane<T> logits, int64_t row) {
  const int64_t area = p.kernel * p.kernel;
  pack(taps, pitch, static_cast<const T*>(logits.at(0, row, item.column)), logits.w, logits.c,
       Span{0, item.columns, pitch}, Span{0, area, area}, A(0));
  if (p.normalize && p.renormalize) exclude_outside(taps, pitch, item, row, p.kernel);
}

// Takes the softmax over the taps, in place and short of its last step: the weights are taps * scale, one scale per
// pixel. lse receives the log-sum-exp, unless it is null.
template <class A>
void softmax(A* taps, int64_t pitch, int64_t area, A* scale, A* lse) {
  constexpr int L = kLanes<A>;
  for (int64_t l = 0; l < pitch; l += L) {
    A* column = taps + l;
    Vec<A> top = vload(column);
    for (int64_t k = 1; k < area; ++k) top = vmax(vload(column + k * pitch), top);
    Vec<A> sum = {};
    for (int64_t k = 0; k < area; ++k) {
      const Vec<A> e = vexp(vload(column + k * pitch) - top);
      vstore(column + k * pitch, e);
      sum += e;
    }
    vstore(scale + l, A(1) / sum);
    if (lse) vstore(lse + l, top + vlog(sum));
  }
}

// Makes weights from logits and a saved log-sum-exp; in place, or from one array to another.
template <class A>
void exponentiate(A* weights, const A* logits, const A* lse, int64_t count) {
  for (int64_t l = 0; l < count; l += kLanes<A>) vstore(weights + l, vexp(vload(logits + l) - vload(lse + l)));
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

// Makes the weights that reach pixels of `row` in grad_input, tap order reversed so that the forward tile serves:
//   taps[K * K - 1 - k, x] = w[k = (u, v), row + u, x + v], 0 where that pixel lies outside the frame.
// Each weight of the image is computed once over all rows. `tap_row` is scratch of K rows of `wide` >= pitch + K - 1.
template <class T, class A = Accumulate<T>>
void gather_weights(A* taps, int64_t pitch, A* tap_row, A* lse_row, int64_t wide, const Problem& p, const Item& item,
                    Plane<T> logits, Plane<A> lse, int64_t row) {
  const int64_t K = p.kernel, r = K / 2;
  const A missing = p.normalize ? -std::numeric_limits<A>::infinity() : A(0);
  // Columns from item.column - r on: tap s reads at offset s.
  const Span columns = clip(item.column - r, wide, item.width);
  for (int64_t t = 0; t < K; ++t) {
    const int64_t y = row + t - r;
    A* reversed = taps + (K - 1 - t) * K * pitch;
    if (y < 0 || y >= item.height) {
      fill(reversed, K * pitch, A(0));
      continue;
    }
    pack(tap_row, wide, static_cast<const T*>(logits.at(t * K, y, item.column - r)), logits.w, logits.c, columns,
         Span{0, K, K}, missing);
    if (p.normalize)
      pack(lse_row, wide, static_cast<const A*>(lse.at(0, y, item.column - r)), lse.w, 0, columns, Span{0, 1, 1}, A(0));
    for (int64_t s = 0; s < K; ++s) {
      A* tap = reversed + (K - 1 - s) * pitch;
      const A* shifted = tap_row + s * wide + s;
      if (p.normalize) exponentiate(tap, shifted, lse_row + s, pitch);
      else for (int64_t l = 0; l < pitch; l += kLanes<A>) vstore(tap + l, vload(shifted + l));
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

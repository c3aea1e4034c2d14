// forward where vectors hold pixels of the input (narrow.h).
#pragma once

#include "narrow.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// The softmax of a vector of pixels: weights [K * K, lanes], which their sum is still to divide; the logits of a tap
// lie `step` from those before, and those that come later on `ahead`, which are asked for.
template <class A>
struct Softmax {
  Vec<A> sum, greatest;
};
template <class A, class P>
SVCONV_INLINE Softmax<A> softmax_of(A* weights, const P* logits, int64_t step, int64_t ahead, int64_t area) {
  constexpr int L = kLanes<A>;
  Vec<A> top = widen_n<L>(logits), sum = {};
  for (int64_t k = 0; k < area; ++k) {
    __builtin_prefetch(logits + k * step + ahead, 0, 2);
    top = vmax(widen_n<L>(logits + k * step), top);
  }
  for (int64_t k = 0; k < area; ++k) {
    const Vec<A> weight = vexp(widen_n<L>(logits + k * step) - top);
    vstore(weights + k * L, weight);
    sum += weight;
  }
  return {sum, top};
}

// The same of the nine taps of K = 3, whose weights lie in registers from their logits to the sums that take them.
template <class A>
struct Nine {
  Vec<A> weights[9];
};
template <class A, class P>
SVCONV_INLINE Softmax<A> softmax_of(Nine<A>& nine, const P* logits, int64_t step, int64_t ahead) {
#pragma GCC unroll 9
  for (int k = 0; k < 9; ++k) {
    __builtin_prefetch(logits + k * step + ahead, 0, 2);
    nine.weights[k] = widen_n<kLanes<A>>(logits + k * step);
  }
  Vec<A> top = nine.weights[0], sum = {};
#pragma GCC unroll 9
  for (Vec<A>& logit : nine.weights) top = vmax(logit, top);
#pragma GCC unroll 9
  for (Vec<A>& weight : nine.weights) {
    weight = vexp(weight - top);
    sum += weight;
  }
  return {sum, top};
}

// What the windows of a row read: of `channels` channels from c on, by rows of taps [first, last).
template <class T>
struct NarrowSums {
  const NarrowInput<T>& input;
  int64_t K, first, last;

  // Sums of CHANNELS channels for the pixels from l on, the weights of a tap `step` from those before.
  template <int CHANNELS, class P, class A>
  SVCONV_INLINE void operator()(Count<CHANNELS>, A* out, int64_t out_apart, const P* weights, int64_t step,
                                Vec<A> factor, int64_t c, int64_t l) const {
    constexpr int L = kLanes<A>;
    const int64_t apart = input.apart(), between = input.step();
    Vec<A> acc[CHANNELS] = {};
    weights += first * K * step;
    for (int64_t t = first; t < last; ++t) {
      const A* x = input.reads(t) + c * apart + l;
      for (int64_t s = 0; s < K; ++s, weights += step, x += between) {
        const Vec<A> weight = widen_n<L>(weights);
        for (int i = 0; i < CHANNELS; ++i) acc[i] += weight * vload(x + i * apart);
      }
    }
    for (int i = 0; i < CHANNELS; ++i) vstore(out + (c + i) * out_apart + l, acc[i] * factor);
  }
  // The same of nine weights, of windows that lie in the frame from top to bottom.
  template <int CHANNELS, class A>
  SVCONV_INLINE void operator()(Count<CHANNELS>, A* out, int64_t out_apart, const Nine<A>& nine, int64_t,
                                Vec<A> factor, int64_t c, int64_t l) const {
    const int64_t apart = input.apart(), between = input.step();
    Vec<A> acc[CHANNELS] = {};
#pragma GCC unroll 9
    for (int k = 0; k < 9; ++k) {
      const A* x = input.reads(k / 3) + c * apart + l + k % 3 * between;
      for (int i = 0; i < CHANNELS; ++i) acc[i] += nine.weights[k] * vload(x + i * apart);
    }
    for (int i = 0; i < CHANNELS; ++i) vstore(out + (c + i) * out_apart + l, acc[i] * factor);
  }

  template <class W, class A>
  SVCONV_INLINE void of_all(A* out, int64_t out_apart, const W& weights, int64_t step, Vec<A> factor, int64_t depth,
                            int64_t l) const {
    int64_t c = 0;
    for (; c + 4 <= depth; c += 4) (*this)(Count<4>(), out, out_apart, weights, step, factor, c, l);
    switch (depth - c) {
      case 1: return (*this)(Count<1>(), out, out_apart, weights, step, factor, c, l);
      case 2: return (*this)(Count<2>(), out, out_apart, weights, step, factor, c, l);
      case 3: return (*this)(Count<3>(), out, out_apart, weights, step, factor, c, l);
    }
  }
};

// One place of a row of cells: out [depth], `out_apart` elements from one channel to the next, and the log-sum-exp
// unless it is null. Scratch: `weights` of a vector for every tap, `sums` of a row.
template <class T, class A = Accumulate<T>>
void narrow_place(A* out, int64_t out_apart, A* lse, A* weights, A* sums, const NarrowInput<T>& input,
                  const NarrowLogits<T>& logits, const Windows& own, int64_t row, int64_t place) {
  constexpr int L = kLanes<A>;
  NarrowSums<T> windows{input, own.K, 0, 0};
  own.tap_rows(row, windows.first, windows.last);
  for (int64_t l = 0; l < input.pitch(); l += L)
    logits.visit(l, place, [&](const auto* from, int64_t step, int64_t ahead) {
      if (!own.p.normalize) return windows.of_all(out, out_apart, from, step, Vec<A>{} + A(1), own.depth, l);
      Softmax<A> softmax;
      if (own.area == 9 && windows.last - windows.first == own.K) {
        Nine<A> nine;
        softmax = softmax_of(nine, from, step, ahead);
        windows.of_all(out, out_apart, nine, 0, A(1) / softmax.sum, own.depth, l);
      } else {
        softmax = softmax_of(weights, from, step, ahead, own.area);
        windows.of_all(out, out_apart, weights, L, A(1) / softmax.sum, own.depth, l);
      }
      if (!lse) return;
      vstore(lse + l, softmax.greatest);
      vstore(sums + l, softmax.sum);
    });
  // Logarithms of a whole row, for one by itself is waited for.
  for (int64_t l = 0; lse && l < input.pitch(); l += L) vstore(lse + l, vload(lse + l) + vlog(vload(sums + l)));
}

template <class T>
void narrow_forward(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windows own(p, item, 1, 1);
  const int64_t scale = p.scale, depth = own.depth, block = narrow_block<T>(p, item);
  Arena arena;
  NarrowInput<T> input(own, block, arena);
  NarrowLogits<T> logits(own, item.column, item.columns, own.area, arena);
  const int64_t pitch = input.pitch(), apart = scale * pitch;
  A* const weights = arena.array<A>(own.area * kLanes<A>);
  A* const sums = arena.array<A>(pitch);
  A* const out = arena.array<A>(block * depth * apart);  // [block, depth, scale, pitch]
  A* const lse = arena.array<A>(block * apart);          // [block, scale, pitch]
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const Cells<T> result(p.result, p, item, item.group * depth, false);
  const Cells<A> lse_result = lse_cells<A>(p, item);
  const bool writes_lse = p.lse && p.normalize;
  input.begin();
  for (int64_t top = item.row; top < item.row + item.rows; top += block) {
    const int64_t end = std::min(top + block, item.row + item.rows);
    input.pack_until(source, end - 1);
    for (int64_t a = 0; a < scale; ++a) {
      for (int64_t b = 0; b < scale; b += logits.places())
        for (int64_t row = top; row < end; ++row) {
          logits.read(row, a, b, 0);
          // Memory takes longer to answer than a row takes.
          const int64_t ahead = row + 2;
          if (ahead < end) logits.expect(ahead, a, b, 0);
          else if (b + 1 < scale) logits.expect(std::min(top + ahead - end, end - 1), a, b + 1, 0);
          input.aim(row);
          for (int64_t place = 0; place < logits.places(); ++place) {
            const int64_t at = (b + place) * pitch;
            narrow_place(out + (row - top) * depth * apart + at, apart,
                         writes_lse ? lse + (row - top) * apart + at : nullptr, weights, sums, input, logits, own, row,
                         place);
          }
        }
      for (int64_t row = top; row < end; ++row) {
        unpack_cells(result.at(0, row, item.column, a, 0), result.column, result.first.w, result.first.c,
                     out + (row - top) * depth * apart, pitch, scale, item.columns, depth);
        if (writes_lse)
          unpack_cells(lse_result.at(0, row, item.column, a, 0), lse_result.column, lse_result.first.w, 0,
                       lse + (row - top) * apart, pitch, scale, item.columns, 1);
      }
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

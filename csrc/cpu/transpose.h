// Square blocks of floats, transposed in registers.
#pragma once

#include "vec.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Picks from two vectors at once: element i of the result is element At::at(i) of [a, b].
template <template <int> class At, class V, size_t... I>
SVCONV_INLINE V pick(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, At<int(sizeof...(I))>::at(I)...);
}

// Within each 128-bit lane: elements 0 and 1, or 2 and 3, of a and b in turns.
template <int L>
struct First {
  static constexpr int at(int i) { return (i % 2 ? L : 0) + i / 4 * 4 + i % 4 / 2; }
};
template <int L>
struct Last {
  static constexpr int at(int i) { return First<L>::at(i) + 2; }
};
// Within each 128-bit lane: the lower, or the upper, pair of elements of a, then of b.
template <int L>
struct Lower {
  static constexpr int at(int i) { return (i % 4 < 2 ? 0 : L) + i / 4 * 4 + i % 2; }
};
template <int L>
struct Upper {
  static constexpr int at(int i) { return Lower<L>::at(i) + 2; }
};
// The even, or the odd, 128-bit lanes of a, then those of b.
template <int L>
struct Even {
  static constexpr int at(int i) { return i / 4 * 8 + i % 4; }
};
template <int L>
struct Odd {
  static constexpr int at(int i) { return Even<L>::at(i) + 4; }
};

// Transposes as many vectors as they have lanes. Instructions move single floats within 128-bit lanes only: first each
// four rows are transposed lane by lane, then lanes are put in their places.
template <int L = kLanes<float>>
SVCONV_INLINE void transpose(VecN<float, L> (&v)[L]) {
  using V = VecN<float, L>;
  constexpr auto all = std::make_index_sequence<L>();
#pragma GCC unroll 4
  for (int r = 0; r < L; r += 4) {
    const V a = pick<First>(v[r], v[r + 1], all), b = pick<First>(v[r + 2], v[r + 3], all);
    const V c = pick<Last>(v[r], v[r + 1], all), d = pick<Last>(v[r + 2], v[r + 3], all);
    v[r] = pick<Lower>(a, b, all);
    v[r + 1] = pick<Upper>(a, b, all);
    v[r + 2] = pick<Lower>(c, d, all);
    v[r + 3] = pick<Upper>(c, d, all);
  }
  if constexpr (L == 8) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const V a = v[k], b = v[k + 4];
      v[k] = pick<Even>(a, b, all);
      v[k + 4] = pick<Odd>(a, b, all);
    }
  }
  if constexpr (L == 16) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const V even[2] = {pick<Even>(v[k], v[k + 4], all), pick<Even>(v[k + 8], v[k + 12], all)};
      const V odd[2] = {pick<Odd>(v[k], v[k + 4], all), pick<Odd>(v[k + 8], v[k + 12], all)};
      v[k] = pick<Even>(even[0], even[1], all);
      v[k + 4] = pick<Even>(odd[0], odd[1], all);
      v[k + 8] = pick<Odd>(even[0], even[1], all);
      v[k + 12] = pick<Odd>(odd[0], odd[1], all);
    }
  }
}

// out[k][l] = src[l * stride + k], for as many k as l.
template <class T>
SVCONV_INLINE void load_transposed(const T* src, int64_t stride, Vec<float> (&out)[kLanes<float>]) {
  constexpr int L = kLanes<float>;
#pragma GCC unroll 16
  for (int l = 0; l < L; ++l) out[l] = widen_n<L>(src + l * stride);
  transpose(out);
}

// The same for the first `count` of the k; no element after them is read. The other vectors of `out` are zero.
template <class T>
SVCONV_INLINE void load_transposed_part(const T* src, int64_t stride, int64_t count, Vec<float> (&out)[kLanes<float>]) {
  constexpr int L = kLanes<float>;
  T rows[L * L] = {};
  for (int l = 0; l < L; ++l) std::memcpy(rows + l * L, src + l * stride, count * sizeof(T));
  load_transposed(rows, L, out);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

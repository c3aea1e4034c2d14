// Vectors of the instruction set being compiled, on compiler vector extensions: the same
// source serves SSE2, AVX2, AVX-512 and NEON. Everything here has internal linkage: this file
// is compiled several times with different flags, and no two copies may be merged.
#pragma once

#include "../shared.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#ifdef __F16C__
#include <immintrin.h>
#endif

// The instruction set being compiled, which is the namespace of all that is made for it.
#ifndef SVCONV_ISA
#define SVCONV_ISA baseline
#endif
#ifndef SVCONV_VECTOR_BYTES
#define SVCONV_VECTOR_BYTES 16
#endif

#define SVCONV_INLINE inline __attribute__((always_inline))

namespace svconv::cpu::SVCONV_ISA {
namespace {

template <class A>
constexpr int kLanes = SVCONV_VECTOR_BYTES / sizeof(A);

template <class E, int L>
struct VecOf {
  typedef E type __attribute__((vector_size(L * sizeof(E))));
};
template <class E, int L>
using VecN = typename VecOf<E, L>::type;
template <class A>
using Vec = VecN<A, kLanes<A>>;

struct half {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

#ifdef __aarch64__
// GCC before 13 has no _Float16 in C++ here.
using Float16 = __fp16;
#else
using Float16 = _Float16;
#endif

template <class V>
SVCONV_INLINE V load_as(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
SVCONV_INLINE void store_as(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}
template <class A>
SVCONV_INLINE Vec<A> vload(const A* p) {
  return load_as<Vec<A>>(p);
}
template <class A>
SVCONV_INLINE void vstore(A* p, Vec<A> v) {
  store_as(p, v);
}

// Keeps a loaded vector in its register. The compiler would rather load it again with every use, and loads are what
// runs short.
template <class V>
SVCONV_INLINE void keep_in_register(V& v) {
#ifdef __x86_64__
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// widen and narrow convert one element from and to its storage type.
SVCONV_INLINE float widen(float x) { return x; }
SVCONV_INLINE double widen(double x) { return x; }
SVCONV_INLINE float widen(bfloat16 x) {
  const uint32_t u = uint32_t(x.bits) << 16;
  return load_as<float>(&u);
}
SVCONV_INLINE float widen(half x) { return float(load_as<Float16>(&x)); }

template <class T>
SVCONV_INLINE T narrow(Accumulate<T> x) {
  return x;
}
template <>
SVCONV_INLINE bfloat16 narrow<bfloat16>(float x) {
  const uint32_t u = load_as<uint32_t>(&x);
  if (x != x) return {0x7fc0};
  return {uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}
template <>
SVCONV_INLINE half narrow<half>(float x) {
  const Float16 h = Float16(x);
  return load_as<half>(&h);
}

// widen_n and narrow_n convert L elements at once from and to their storage type.
template <int L, class T>
SVCONV_INLINE VecN<Accumulate<T>, L> widen_n(const T* p) {
  if constexpr (sizeof(T) >= 4) {
    return load_as<VecN<T, L>>(p);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    const auto u = __builtin_convertvector(load_as<VecN<uint16_t, L>>(p), VecN<uint32_t, L>) << 16;
    return (VecN<float, L>)u;
  } else {
    static_assert(std::is_same_v<T, half>);
#ifdef __F16C__
    if constexpr (L == 4) return (VecN<float, 4>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
    if constexpr (L == 8) return (VecN<float, 8>)_mm256_cvtph_ps(load_as<__m128i>(p));
#ifdef __AVX512F__
    if constexpr (L == 16) return (VecN<float, 16>)_mm512_cvtph_ps(load_as<__m256i>(p));
#endif
#else
    VecN<float, L> v;
    for (int i = 0; i < L; ++i) v[i] = widen(p[i]);
    return v;
#endif
  }
}

template <class T>
SVCONV_INLINE void narrow_n(T* p, Vec<Accumulate<T>> v) {
  constexpr int L = kLanes<Accumulate<T>>;
  if constexpr (sizeof(T) >= 4) {
    store_as(p, v);
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    const auto u = (VecN<uint32_t, L>)v;
    const auto rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    const auto is_nan = (VecN<uint32_t, L>)(v != v);
    store_as(p, __builtin_convertvector((rounded & ~is_nan) | (is_nan & 0x7fc0), VecN<uint16_t, L>));
  } else {
    static_assert(std::is_same_v<T, half>);
#if defined(__AVX512F__)
    store_as(p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
    store_as(p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    for (int i = 0; i < L; ++i) p[i] = narrow<half>(v[i]);
#endif
  }
}

// exp(x) for x <= 0 or NaN: Cody-Waite reduction and a polynomial of degree 6, within 2 ulp; 0 below
// the smallest normal result, so that exp(-inf) = 0.
SVCONV_INLINE Vec<float> vexp(Vec<float> x) {
  using I = VecN<int32_t, kLanes<float>>;
  const I below = x < -87.3f;
  // A NaN compares false here and goes through to the result.
  x = below ? Vec<float>{} - 87.3f : x;
  const Vec<float> shifted = x * 1.44269504088896341f + 12582912.0f;
  const Vec<float> n = shifted - 12582912.0f;
  Vec<float> r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vec<float> y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const I scale = ((I)shifted + 127) << 23;
  return (Vec<float>)((I)(y * (Vec<float>)scale) & ~below);
}
SVCONV_INLINE Vec<double> vexp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

template <class V>
SVCONV_INLINE V vmax(V a, V b) {
  return a > b ? a : b;
}

// 4 consecutive elements of each of L rows, transposed: out[k][l] = row l, element k.
template <class V, size_t... I>
SVCONV_INLINE V interleave(V a, V b, bool high, std::index_sequence<I...>) {
  constexpr int L = sizeof...(I);
  return high ? __builtin_shufflevector(a, b, ((I % 2 ? L : 0) + I / 4 * 4 + I % 4 / 2 + 2)...)
              : __builtin_shufflevector(a, b, ((I % 2 ? L : 0) + I / 4 * 4 + I % 4 / 2)...);
}
template <class V, size_t... I>
SVCONV_INLINE V interleave_pairs(V a, V b, bool high, std::index_sequence<I...>) {
  constexpr int L = sizeof...(I);
  return high ? __builtin_shufflevector(a, b, ((I % 4 < 2 ? 0 : L) + I / 4 * 4 + I % 2 + 2)...)
              : __builtin_shufflevector(a, b, ((I % 4 < 2 ? 0 : L) + I / 4 * 4 + I % 2)...);
}
template <int L, size_t... I>
SVCONV_INLINE auto join(VecN<float, L> a, VecN<float, L> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, I...);
}

// Elements row[0..3] of rows r, r + 4, r + 8, ...: one 128-bit lane each.
template <int L, class T>
SVCONV_INLINE VecN<float, L> load_lanes(const T* row, int64_t stride) {
  if constexpr (L == 4) {
    return widen_n<4>(row);
  } else {
    return join<L / 2>(load_lanes<L / 2>(row, stride), load_lanes<L / 2>(row + L / 2 * stride, stride),
                       std::make_index_sequence<L>());
  }
}

template <class T>
SVCONV_INLINE void load_transposed(const T* src, int64_t stride, Vec<float> out[4]) {
  constexpr int L = kLanes<float>;
  constexpr auto lanes = std::make_index_sequence<L>();
  Vec<float> row[4];
  for (int r = 0; r < 4; ++r) row[r] = load_lanes<L>(src + r * stride, stride);
  const Vec<float> a = interleave(row[0], row[1], false, lanes), b = interleave(row[2], row[3], false, lanes);
  const Vec<float> c = interleave(row[0], row[1], true, lanes), d = interleave(row[2], row[3], true, lanes);
  out[0] = interleave_pairs(a, b, false, lanes);
  out[1] = interleave_pairs(a, b, true, lanes);
  out[2] = interleave_pairs(c, d, false, lanes);
  out[3] = interleave_pairs(c, d, true, lanes);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

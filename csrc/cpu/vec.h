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
  asm("" : "+v"(v));
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

// The greater one, b where neither is. Compilers don't find the instruction for whole vectors.
template <class V>
SVCONV_INLINE V vmax(V a, V b) {
#ifdef __AVX512F__
  if constexpr (std::is_same_v<V, VecN<float, 16>>) return (V)_mm512_max_ps((__m512)a, (__m512)b);
#endif
#ifdef __AVX2__
  if constexpr (std::is_same_v<V, VecN<float, 8>>) return (V)_mm256_max_ps((__m256)a, (__m256)b);
#endif
  return a > b ? a : b;
}

// widen_n of the first `count` elements, fewer than L; zeros follow, and nothing after them is read.
template <int L, class T>
SVCONV_INLINE VecN<Accumulate<T>, L> widen_part(const T* p, int64_t count) {
#if defined(__AVX512F__)
  const uint32_t mask = (uint32_t(1) << count) - 1;
  if constexpr (std::is_same_v<T, float> && L == 16) return (VecN<float, L>)_mm512_maskz_loadu_ps(mask, p);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float> && L == 8)
    return (VecN<float, L>)_mm256_maskload_ps(p, (__m256i)(VecN<int32_t, L>{0, 1, 2, 3, 4, 5, 6, 7} < int32_t(count)));
#endif
  T block[L] = {};
  for (int64_t l = 0; l < count; ++l) block[l] = p[l];
  return widen_n<L>(block);
}

// narrow_n of the first `count` elements, fewer than L; nothing after them is written.
template <class T>
SVCONV_INLINE void narrow_part(T* p, Vec<Accumulate<T>> v, int64_t count) {
  constexpr int L = kLanes<Accumulate<T>>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(p, (uint32_t(1) << count) - 1, (__m512)v);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return _mm256_maskstore_ps(p, (__m256i)(VecN<int32_t, L>{0, 1, 2, 3, 4, 5, 6, 7} < int32_t(count)), (__m256)v);
#endif
  T block[L];
  narrow_n(block, v);
  for (int64_t l = 0; l < count; ++l) p[l] = block[l];
}

// exp(x) for x <= 0 or NaN: 2^n times a polynomial of degree 6 in x - n * log(2). Within 1.5 ulp for x > -20, the
// weights that count in a sum with exp(0), and within 5 ulp below. From about -87.5 on, where normal numbers end, it
// is 0. A NaN is neither less nor greater than anything and goes through to the result.
SVCONV_INLINE Vec<float> vexp(Vec<float> x) {
  // The low bits of `shifted` are the exponent of 2^n, for the number's last bit counts as one.
  constexpr float bias = 12582912.0f + 127;
#ifndef __AVX512F__
  // The exponent of the least of these is that of zero.
  x = vmax(Vec<float>{} - 88.0296919f, x);
#endif
  const Vec<float> shifted = x * 1.44269504088896341f + bias;
  const Vec<float> n = shifted - bias;
#if defined(__FMA__) || defined(__aarch64__)
  // log(2) is nearly a float, and its product is not rounded.
  const Vec<float> r = x - n * 0.693147180559945309f;
#else
  const Vec<float> r = x - n * 0.693359375f - n * -2.12194440e-4f;
#endif
  Vec<float> y = r * 1.38145406e-3f + 8.36874545e-3f;
  y = y * r + 4.16683890e-2f;
  y = y * r + 1.66665211e-1f;
  y = y * r + 4.99999940e-1f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
#ifdef __AVX512F__
  const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.3365447f), _CMP_NLT_UQ);
  return (Vec<float>)_mm512_maskz_scalef_ps(normal, (__m512)y, (__m512)n);
#else
  return y * (Vec<float>)((VecN<int32_t, kLanes<float>>)shifted << 23);
#endif
}
SVCONV_INLINE Vec<double> vexp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(x) for normal x > 0 or NaN: x = m * 2^n with m in [sqrt(1/2), sqrt(2)), and Cephes' polynomial in m - 1, within
// 2 ulp.
SVCONV_INLINE Vec<float> vlog(Vec<float> x) {
  using I = VecN<int32_t, kLanes<float>>;
  // Mantissas from sqrt(1/2) on carry into the exponent.
  const I n = ((I)x - 0x3f3504f3) >> 23;
  const Vec<float> r = (Vec<float>)((I)x - (n << 23)) - 1.0f;
  Vec<float> y = r * 7.0376836292e-2f - 1.1514610310e-1f;
  y = y * r + 1.1676998740e-1f;
  y = y * r - 1.2420140846e-1f;
  y = y * r + 1.4249322787e-1f;
  y = y * r - 1.6668057665e-1f;
  y = y * r + 2.0000714765e-1f;
  y = y * r - 2.4999993993e-1f;
  y = y * r + 3.3333331174e-1f;
  const Vec<float> exponent = __builtin_convertvector(n, Vec<float>), square = r * r;
  y = y * r * square + exponent * -2.12194440e-4f - 0.5f * square;
  const Vec<float> result = r + y + exponent * 0.693359375f;
  return x == x ? result : x;
}
SVCONV_INLINE Vec<double> vlog(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::log(x[i]);
  return x;
}

// Whole numbers of the width of A, one for each lane.
template <class A>
using Lanes = VecN<std::conditional_t<sizeof(A) == 8, int64_t, int32_t>, kLanes<A>>;

// result[l] = v[index[l]], each index that of a lane.
template <class A>
SVCONV_INLINE Vec<A> permute(Vec<A> v, Lanes<A> index) {
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(v, index);
#else
  Vec<A> result;
  for (int l = 0; l < kLanes<A>; ++l) result[l] = v[index[l]];
  return result;
#endif
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

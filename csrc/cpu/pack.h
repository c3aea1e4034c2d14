// Copies between strided tensors of any element type and dense blocks in the accumulation type.
// A block is [minor][lanes]: a lane is a channel or a pixel, whichever a vector holds.
#pragma once

#include "transpose.h"

#include <algorithm>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace svconv::cpu::SVCONV_ISA {
namespace {

// The part [first, last) of [0, size) that exists; the rest is filled.
struct Span {
  int64_t first, last, size;
};

SVCONV_INLINE Span clip(int64_t begin, int64_t size, int64_t limit) {
  const int64_t first = begin < 0 ? -begin : 0;
  const int64_t last = begin + size > limit ? limit - begin : size;
  return {first < size ? first : size, last > first ? last : (first < size ? first : size), size};
}

template <class A>
void fill(A* dst, int64_t count, A value) {
  for (int64_t i = 0; i < count; ++i) dst[i] = value;
}

// dst[m * pitch + l] = src[l * lane_stride + m * minor_stride] where both spans exist.
template <class T, class A = Accumulate<T>>
void pack(A* dst, int64_t pitch, const T* src, int64_t lane_stride, int64_t minor_stride, Span lanes, Span minors,
          A missing) {
  constexpr int L = kLanes<A>;
  for (int64_t m = 0; m < minors.first; ++m) fill(dst + m * pitch, lanes.size, missing);
  for (int64_t m = minors.last; m < minors.size; ++m) fill(dst + m * pitch, lanes.size, missing);
  if (lanes.last - lanes.first < lanes.size) {
    for (int64_t m = minors.first; m < minors.last; ++m) {
      fill(dst + m * pitch, lanes.first, missing);
      fill(dst + m * pitch + lanes.last, lanes.size - lanes.last, missing);
    }
  }
  const int64_t count = lanes.last - lanes.first;
  if (lane_stride == 1 && count >= L) {
    for (int64_t m = minors.first; m < minors.last; ++m) {
      // The last vector ends where the span does.
      for (int64_t l = lanes.first; l < lanes.last; l += L) {
        const int64_t at = std::min(l, lanes.last - L);
        vstore(dst + m * pitch + at, widen_n<L>(src + m * minor_stride + at));
      }
    }
    return;
  }
  if (lane_stride == 0 && count > 0) {
    for (int64_t m = minors.first; m < minors.last; ++m)
      fill(dst + m * pitch + lanes.first, count, A(widen(src[m * minor_stride])));
    return;
  }
  int64_t l = lanes.first;
  if constexpr (sizeof(A) == 4) {
    // A block takes whole cache lines: rows of planes that lie a power of two apart push each other out of the caches,
    // so that a line is there once only.
    if (minor_stride == 1 && minors.last > minors.first) {
      for (; l + L <= lanes.last; l += L) {
        const T* from = src + l * lane_stride;
        Vec<A> v[L];
        if (minors.last - minors.first < L) {
          load_transposed_part(from + minors.first, lane_stride, minors.last - minors.first, v);
          for (int64_t m = minors.first; m < minors.last; ++m) vstore(dst + m * pitch + l, v[m - minors.first]);
          continue;
        }
        for (int64_t m = minors.first; m < minors.last; m += L) {
          const int64_t at = std::min(m, minors.last - L);
          load_transposed(from + at, lane_stride, v);
#pragma GCC unroll 16
          for (int k = 0; k < L; ++k) vstore(dst + (at + k) * pitch + l, v[k]);
        }
      }
    }
  }
  for (int64_t m = minors.first; m < minors.last; ++m)
    for (int64_t k = l; k < lanes.last; ++k)
      dst[m * pitch + k] = widen(src[k * lane_stride + m * minor_stride]);
}

// Walks a block of a tensor, asking for its cache lines a few runs at a time, while something else is computed.
class Prefetch {
 public:
  // One loop around the runs: how often it turns, and how far apart its turns are, in elements.
  struct Loop {
    int64_t count, stride;
  };

  Prefetch() = default;

  // Runs of `run` elements each, in three nested loops, the innermost last.
  template <class T>
  Prefetch(const T* base, Loop outer, Loop middle, Loop inner, int64_t run)
      : base_(reinterpret_cast<const char*>(base)),
        outer_stride_(outer.stride * sizeof(T)),
        middle_{middle.count, middle.stride * int64_t(sizeof(T))},
        inner_{inner.count, inner.stride * int64_t(sizeof(T))},
        bytes_(run * sizeof(T)),
        left_(run > 0 ? outer.count * middle.count * inner.count : 0) {}

  // A [rows, lanes x minors] block: runs lie along the dimension of stride 1, if there is one.
  template <class T>
  static Prefetch block(const T* base, int64_t rows, int64_t row_stride, int64_t lanes, int64_t lane_stride,
                        int64_t minors, int64_t minor_stride) {
    const Loop one{1, 0}, outer{rows, row_stride};
    if (minor_stride == 1) return {base, one, outer, {lanes, lane_stride}, minors};
    if (lane_stride == 1) return {base, one, outer, {minors, minor_stride}, lanes};
    return {};
  }

  int64_t left() const { return left_; }
  // Asks for all of it at once.
  void all() { step(left_); }

  SVCONV_INLINE void step(int64_t runs) {
    for (runs = runs < left_ ? runs : left_, left_ -= runs; runs > 0; --runs) {
      const char* line = base_ + j_ * middle_.stride + i_ * inner_.stride;
      for (int64_t at = 0; at < bytes_; at += 64) __builtin_prefetch(line + at, 0, 2);
      __builtin_prefetch(line + bytes_ - 1, 0, 2);
      if (++i_ < inner_.count) continue;
      i_ = 0;
      if (++j_ < middle_.count) continue;
      j_ = 0;
      base_ += outer_stride_;
    }
  }

 private:
  const char* base_ = nullptr;
  int64_t outer_stride_ = 0;
  Loop middle_{}, inner_{};
  int64_t bytes_ = 0, left_ = 0, i_ = 0, j_ = 0;
};

// Elements of a cache line.
template <class T>
constexpr int64_t kLine = 64 / sizeof(T);

// Writes a cache line, aligned, straight to memory, which is not read before as it would be for the caches.
template <class T>
SVCONV_INLINE void put_line(T* dst, const T* line) {
#if defined(__AVX512F__)
  _mm512_stream_si512((__m512i*)dst, load_as<__m512i>(line));
#elif defined(__x86_64__)
  for (int64_t i = 0; i < kLine<T>; i += 16 / sizeof(T))
    _mm_stream_si128((__m128i*)(dst + i), load_as<__m128i>(line + i));
#else
  std::memcpy(dst, line, 64);
#endif
}

// dst[l * lane_stride + m * minor_stride] = src[m * pitch + l] for l < lanes, m < minors. `past_caches` needs lines of
// dst that begin at l = 0 or m = 0, whichever has stride 1.
template <class T, class A = Accumulate<T>>
void unpack(T* dst, int64_t lane_stride, int64_t minor_stride, const A* src, int64_t pitch, int64_t lanes,
            int64_t minors, bool past_caches = false) {
  constexpr int L = kLanes<A>;
  alignas(64) T lines[L][kLine<T>];
  if (lane_stride == 1) {
    for (int64_t m = 0; m < minors; ++m) {
      T* to = dst + m * minor_stride;
      const A* from = src + m * pitch;
      int64_t l = 0;
      for (; past_caches && l + kLine<T> <= lanes; l += kLine<T>) {
        for (int64_t i = 0; i < kLine<T>; i += L) narrow_n(lines[0] + i, vload(from + l + i));
        put_line(to + l, lines[0]);
      }
      for (; l + L <= lanes; l += L) narrow_n(to + l, vload(from + l));
      // Arrays of the scratch memory end a vector after their last element.
      if (l < lanes) narrow_part(to + l, vload(from + l), lanes - l);
    }
    return;
  }
  int64_t l = 0;
  if constexpr (sizeof(A) == 4) {
    for (; minor_stride == 1 && l + L <= lanes; l += L) {
      T* to = dst + l * lane_stride;
      const A* from = src + l;
      Vec<A> v[L];
      int64_t m = 0;
      for (; past_caches && m + kLine<T> <= minors; m += kLine<T>) {
#if defined(__AVX512F__)
        // Vectors that are lines go from registers: the compiler would write them to `lines` as well.
        if constexpr (sizeof(T) == 4) {
          load_transposed(from + m * pitch, pitch, v);
#pragma GCC unroll 16
          for (int k = 0; k < L; ++k) _mm512_stream_ps(to + k * lane_stride + m, (__m512)v[k]);
          continue;
        }
#endif
        for (int64_t i = 0; i < kLine<T>; i += L) {
          load_transposed(from + (m + i) * pitch, pitch, v);
#pragma GCC unroll 16
          for (int k = 0; k < L; ++k) narrow_n(lines[k] + i, v[k]);
        }
        for (int k = 0; k < L; ++k) put_line(to + k * lane_stride + m, lines[k]);
      }
      for (; m < minors && minors >= L; m += L) {
        const int64_t at = std::min(m, minors - L);
        load_transposed(from + at * pitch, pitch, v);
#pragma GCC unroll 16
        for (int k = 0; k < L; ++k) narrow_n(to + k * lane_stride + at, v[k]);
      }
      if (m < minors) {
        A block[L * L] = {};
        for (int64_t i = 0; i < minors; ++i) vstore(block + i * L, vload(from + i * pitch));
        load_transposed(block, L, v);
        for (int k = 0; k < L; ++k) {
          narrow_n(lines[k], v[k]);
          std::memcpy(to + k * lane_stride, lines[k], minors * sizeof(T));
        }
      }
    }
  }
  for (int64_t m = 0; m < minors; ++m)
    for (int64_t k = l; k < lanes; ++k) dst[k * lane_stride + m * minor_stride] = narrow<T>(src[m * pitch + k]);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

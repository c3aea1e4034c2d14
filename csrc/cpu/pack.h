// Copies between strided tensors of any element type and dense blocks in the accumulation type.
// A block is [minor][lanes]: a lane is a channel or a pixel, whichever a vector holds.
#pragma once

#include "vec.h"

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
  if (lane_stride == 1) {
    for (int64_t m = minors.first; m < minors.last; ++m) {
      int64_t l = lanes.first;
      for (; l + L <= lanes.last; l += L) vstore(dst + m * pitch + l, widen_n<L>(src + m * minor_stride + l));
      for (; l < lanes.last; ++l) dst[m * pitch + l] = widen(src[m * minor_stride + l]);
    }
    return;
  }
  int64_t l = lanes.first;
  if constexpr (sizeof(A) == 4) {
    if (minor_stride == 1) {
      for (; l + L <= lanes.last; l += L) {
        int64_t m = minors.first;
        for (; m + 4 <= minors.last; m += 4) {
          Vec<A> v[4];
          load_transposed(src + l * lane_stride + m, lane_stride, v);
          for (int k = 0; k < 4; ++k) vstore(dst + (m + k) * pitch + l, v[k]);
        }
        for (; m < minors.last; ++m)
          for (int k = 0; k < L; ++k) dst[m * pitch + l + k] = widen(src[(l + k) * lane_stride + m]);
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
  // `outer` blocks of `inner` runs of `run` elements each; strides in elements.
  template <class T>
  Prefetch(const T* base, int64_t outer, int64_t outer_stride, int64_t inner, int64_t inner_stride, int64_t run)
      : base_(reinterpret_cast<const char*>(base)),
        outer_stride_(outer_stride * sizeof(T)),
        inner_(inner),
        inner_stride_(inner_stride * sizeof(T)),
        bytes_(run * sizeof(T)),
        left_(run > 0 ? outer * inner : 0) {}

  // A [rows, lanes x minors] block: runs lie along the dimension of stride 1, if there is one.
  template <class T>
  static Prefetch block(const T* base, int64_t rows, int64_t row_stride, int64_t lanes, int64_t lane_stride,
                        int64_t minors, int64_t minor_stride) {
    if (minor_stride == 1) return {base, rows, row_stride, lanes, lane_stride, minors};
    if (lane_stride == 1) return {base, rows, row_stride, minors, minor_stride, lanes};
    return {base, 0, 0, 0, 0, 0};
  }

  int64_t left() const { return left_; }

  SVCONV_INLINE void step(int64_t runs) {
    for (runs = runs < left_ ? runs : left_, left_ -= runs; runs > 0; --runs) {
      const char* line = base_ + i_ * inner_stride_;
      for (int64_t at = 0; at < bytes_; at += 64) __builtin_prefetch(line + at, 0, 2);
      __builtin_prefetch(line + bytes_ - 1, 0, 2);
      if (++i_ == inner_) {
        i_ = 0;
        base_ += outer_stride_;
      }
    }
  }

 private:
  const char* base_;
  int64_t outer_stride_, inner_, inner_stride_, bytes_, left_, i_ = 0;
};

// dst[l * lane_stride + m * minor_stride] = src[m * pitch + l] for l < lanes, m < minors.
template <class T, class A = Accumulate<T>>
void unpack(T* dst, int64_t lane_stride, int64_t minor_stride, const A* src, int64_t pitch, int64_t lanes,
            int64_t minors) {
  constexpr int L = kLanes<A>;
  if (lane_stride == 1) {
    for (int64_t m = 0; m < minors; ++m) {
      int64_t l = 0;
      for (; l + L <= lanes; l += L) narrow_n(dst + m * minor_stride + l, vload(src + m * pitch + l));
      for (; l < lanes; ++l) dst[m * minor_stride + l] = narrow<T>(src[m * pitch + l]);
    }
    return;
  }
  int64_t m = 0;
  if constexpr (sizeof(A) == 4) {
    if (minor_stride == 1) {
      // Two vectors at a time: with AVX2 a whole cache line of floats.
      for (; m + 2 * L <= minors; m += 2 * L) {
        int64_t l = 0;
        for (; l + 4 <= lanes; l += 4) {
          Vec<A> v[2][4];
          load_transposed(src + m * pitch + l, pitch, v[0]);
          load_transposed(src + (m + L) * pitch + l, pitch, v[1]);
          for (int k = 0; k < 4; ++k)
            for (int half = 0; half < 2; ++half)
              narrow_n(dst + (l + k) * lane_stride + m + half * L, v[half][k]);
        }
        for (; l < lanes; ++l)
          for (int k = 0; k < 2 * L; ++k) dst[l * lane_stride + m + k] = narrow<T>(src[(m + k) * pitch + l]);
      }
    }
  }
  for (; m < minors; ++m)
    for (int64_t l = 0; l < lanes; ++l) dst[l * lane_stride + m * minor_stride] = narrow<T>(src[m * pitch + l]);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// Copies between tensors of any strides and tiles in shared memory, for the kernels that work on tiles.
#pragma once

#include "numbers.h"
#include "plane.h"

namespace svconv::cuda {

constexpr int kHalo = 4;  // columns on either side of a tile in shared memory, whatever K <= 9

// Walks (line, item), item < items, from `start` in steps of `step`, without a division in the loop.
struct Walk {
  int line, item, items, step_lines, step_items;
  __device__ __forceinline__ Walk(int start, int step, int items)
      : line(start / items), item(start % items), items(items), step_lines(step / items), step_items(step % items) {}
  __device__ __forceinline__ void next() {
    line += step_lines;
    item += step_items;
    if (item >= items) {
      item -= items;
      ++line;
    }
  }
};

// Says for each tensor of a problem whether runs of its elements may be copied at once.
struct Vectors {
  bool data = false, grad = false, logits = false, result = false;
};

// True if every run of `vector` elements along a dimension is one aligned piece of memory: the stride `along` is 1, the
// other strides are multiples of `vector`.
inline bool aligned(const View& v, int element_bytes, int vector, int64_t along, int64_t other) {
  return along == 1 && other % vector == 0 && v.h % vector == 0 && v.n % vector == 0 &&
         reinterpret_cast<uintptr_t>(v.data) % (vector * element_bytes) == 0;
}

// True if runs of `vector` pixels in a row can be copied at once.
inline bool aligned_rows(const View& v, const Problem& p, int element_bytes, int vector) {
  return p.dilation == 1 && p.width % vector == 0 && aligned(v, element_bytes, vector, v.w, v.c);
}

// True if runs of `vector` channels of a pixel can be copied at once.
inline bool aligned_channels(const View& v, const Problem& p, int element_bytes, int vector) {
  return p.channels / p.groups % vector == 0 && aligned(v, element_bytes, vector, v.c, v.w);
}

// Reads a run of floats, 16 bytes at a time.
template <int kCount>
__device__ __forceinline__ void read_floats(float (&to)[kCount], const float* from) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const float4 v = *reinterpret_cast<const float4*>(from + i);
    to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
  }
}

template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
  if constexpr (kBytes == 16) cp_async_16(to, from, valid);
  if constexpr (kBytes == 8) cp_async_8(to, from, valid);
  if constexpr (kBytes == 4) cp_async_4(to, from, valid);
}

// Copies one element: asynchronously but for 16 bits, which are too few for it.
template <class T>
__device__ __forceinline__ void copy_element(T* to, const T* from, bool valid) {
  if constexpr (sizeof(T) == 4) cp_async_4(to, from, valid);
  else *to = valid ? *from : T{};
}

__device__ __forceinline__ bool inside(const Image& image, int y, int x) {
  return y >= 0 && y < image.height && x >= 0 && x < image.width;
}

// Taps of the pixels of a tile in shared memory: [K * K][rows][columns], planes `pitch` apart. Swizzled, runs of 4 of
// 16 pixels are exchanged within a row, so that 8 rows are written at one run's place without a bank conflict.
struct Taps {
  int rows, columns, pitch;
  bool swizzled = false;
  __device__ __forceinline__ int at(int row, int column) const {
    return row * columns + (swizzled ? column ^ (row / 2 % 4 * 4) : column);
  }
};

// Copies the logits of the tile whose first pixel is (y, x) to shared memory, kVector at once with `vectors`. Reversed,
// tap row t starts at row y + t - r and, if kShift, tap column s at column x + s - r: the pixels whose taps reach the
// tile. `margin` columns on either side are left out: nobody reads them.
template <int K, bool kShift, int kVector, class T>
__device__ void load_logits(T* to, const Taps& taps, Plane<const T> logits, const Image& image, int y, int x,
                            bool reversed, bool vectors, int margin = 0) {
  constexpr int r = K / 2;
  const int columns = taps.columns - 2 * margin;
  to += margin, x += margin;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const auto row_of = [&](int tap) { return reversed ? y + tap / K - r : y; };
  const auto column_of = [&](int tap) { return reversed && kShift ? x + tap % K - r : x; };
  if (vectors && !(reversed && kShift)) {
    for (int tap = warp; tap < K * K; tap += warps)
      for (Walk at(lane, 32, columns / kVector); at.line < taps.rows; at.next()) {
        const int row = row_of(tap) + at.line, column = x + at.item * kVector;
        const bool valid = inside(image, row, column);
        copy_async<kVector * sizeof(T)>(to + tap * taps.pitch + at.line * taps.columns + at.item * kVector,
                                        valid ? logits.at(tap, row, column) : logits.data, valid);
      }
    return;
  }
  const auto copy = [&](int tap, int i, int j) {
    const int row = row_of(tap) + i, column = column_of(tap) + j;
    const bool valid = inside(image, row, column);
    copy_element(to + tap * taps.pitch + i * taps.columns + j, valid ? logits.at(tap, row, column) : logits.data,
                 valid);
  };
  if (logits.c == 1) {
    for (Walk at(warp, warps, columns); at.line < taps.rows; at.next())
      for (int tap = lane; tap < K * K; tap += 32) copy(tap, at.line, at.item);
  } else {
    for (int tap = warp; tap < K * K; tap += warps)
      for (Walk at(lane, 32, columns); at.line < taps.rows; at.next()) copy(tap, at.line, at.item);
  }
}

// Writes the taps of the tile whose first pixel is (y, x) from shared memory to the tensor `result`, rounded from
// float32 to its type. It is the reverse of load_logits; pixels outside the image are left out.
template <int K, class T>
__device__ void store_taps(Plane<T> result, const float* from, const Taps& taps, const Image& image, int y, int x) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const auto copy = [&](int tap, int i, int j) {
    if (inside(image, y + i, x + j))
      *result.at(tap, y + i, x + j) = narrow<T>(from[tap * taps.pitch + taps.at(i, j)]);
  };
  if (result.c == 1) {
    for (Walk at(warp, warps, taps.columns); at.line < taps.rows; at.next())
      for (int tap = lane; tap < K * K; tap += 32) copy(tap, at.line, at.item);
  } else {
    for (int tap = warp; tap < K * K; tap += warps)
      for (Walk at(lane, 32, taps.columns); at.line < taps.rows; at.next()) copy(tap, at.line, at.item);
  }
}

// Copies the log-sum-exp of rows [y, y + rows) x columns [x, x + columns) to shared memory; outside the image it is
// infinity, so that weights are zero there.
__device__ inline void load_lse(float* to, Plane<float> lse, const Image& image, int y, int x, int rows, int columns) {
  for (Walk at(threadIdx.x, blockDim.x, columns); at.line < rows; at.next())
    to[at.line * columns + at.item] =
        inside(image, y + at.line, x + at.item) ? *lse.at(0, y + at.line, x + at.item) : float(INFINITY);
}

// Puts grad_logits = w * (dw - delta), delta = sum over taps of w * dw, in place of dw; one thread works on a pixel.
// The logits lie in shared memory as `from` says, those of pixel (i, j) of dw at their column j + shift.
template <int K, class T>
__device__ void softmax_backward(float* dw, const Taps& to, const T* logits, const Taps& from, int shift,
                                 const ImageProblem& p, Plane<float> lse, const Image& image, int y, int x) {
  constexpr int r = K / 2;
  for (Walk at(threadIdx.x, blockDim.x, to.columns); at.line < to.rows; at.next()) {
    const int row = y + at.line, column = x + at.item;
    if (!inside(image, row, column)) continue;
    const float top = *lse.at(0, row, column);
    const T* const own = logits + from.at(at.line, at.item + shift);
    float* const gradient = dw + to.at(at.line, at.item);
    const auto weight = [&](int tap) {
      const bool excluded = p.renormalize && !inside(image, row - (tap / K - r), column - (tap % K - r));
      return excluded ? 0.0f : exponential(widen(own[tap * from.pitch]) - top);
    };
    float delta = 0;
#pragma unroll 3
    for (int tap = 0; tap < K * K; ++tap) delta += weight(tap) * gradient[tap * to.pitch];
#pragma unroll 3
    for (int tap = 0; tap < K * K; ++tap)
      gradient[tap * to.pitch] = weight(tap) * (gradient[tap * to.pitch] - delta);
  }
}

}  // namespace svconv::cuda

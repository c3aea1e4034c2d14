// Tiles and shared memory of the tensor-core kernels: float16 and bfloat16 (K = 3 to 11), and float32 rounded to tf32
// (K = 5, 7, 9). docs/cuda.md has the derivation.
//
// A warp works on 8 pixels in each of a few rows. Its window is 16 columns wide, with K = 11 24, and starts
// band_halo(K) columns before the pixels.
#pragma once

#include "copy.h"
#include "paths.h"

namespace svconv::cuda {

constexpr int kPixels = 8;  // of a warp in a row

__host__ __device__ constexpr int band_halo(int K) { return K <= 9 ? kHalo : 2 * kHalo; }

// Columns from one row of channels to the next, of a chunk `width` wide: an odd number of 16-byte vectors of 16-bit
// numbers (but for the smallest tile of K <= 9, which would grow by half), 8 modulo 16 of float32.
template <class T>
__host__ __device__ constexpr int chunk_columns(int K, int width) {
  return sizeof(T) == 4 || K > 9 ? width | 8 : width;
}

// How a chunk of channels lies in shared memory, following the tensor:
//   channels inside (channels-last):  [row][column][kChannels], 16-byte vectors swizzled so that the lanes of a
//                                     fragment fall on different banks
//   columns inside (NCHW):            [row][kChannels][columns]
template <class T, int K, bool kInside, int kDepth>
struct ChunkOrder {
  static constexpr bool kChannelsInside = kInside;
  static constexpr int kChannels = kDepth;
  // The elements of one copy. It has 16 bytes, or 8 where columns of 16-bit numbers lie inside.
  static constexpr int kVector = sizeof(T) == 4 ? 4 : kInside ? 8 : 4;
  int columns;

  __device__ __forceinline__ explicit ChunkOrder(int width) : columns(chunk_columns<T>(K, width)) {}

  __device__ __forceinline__ int at(int row, int column, int channel) const {
    if constexpr (kInside) {
      constexpr int kLanes = 16 / sizeof(T);
      return (row * columns + column) * kDepth + ((channel / kLanes) ^ swizzle(column)) * kLanes + channel % kLanes;
    } else return (row * kDepth + channel) * columns + column;
  }
  __device__ __forceinline__ int row_pitch() const { return columns * kDepth; }
  // The offset that lies `channels` (0 or half of them all) after `offset`, which lies in the first half of the
  // channels. A step is one bit of the vector's number, whatever is swizzled.
  __device__ __forceinline__ int step(int offset, int channels) const {
    return kInside ? offset ^ channels : offset + channels * columns;
  }

 private:
  // The number of a vector of this column is combined with this one by exclusive or.
  __device__ __forceinline__ static int swizzle(int column) {
    if constexpr (sizeof(T) == 2) return column / 2 % 4;
    else return kDepth == 32 ? column / 4 % 4 * 2 : column / 2 % 2 * 2;
  }
};

// Calls f(row, column, channel, elements at once) for every run of a chunk of rows x width pixels.
template <class Order, int kRun, class F>
__device__ __forceinline__ void for_each_run_of(int rows, int width, const F& f) {
  const std::integral_constant<int, kRun> run;
  if constexpr (Order::kChannelsInside) {
    constexpr int kRunsOfPixel = Order::kChannels / kRun;
    for (Walk at(threadIdx.x, blockDim.x, width * kRunsOfPixel); at.line < rows; at.next())
      f(at.line, at.item / kRunsOfPixel, at.item % kRunsOfPixel * kRun, run);
  } else {
    for (Walk at(threadIdx.x, blockDim.x, width / kRun); at.line < rows * Order::kChannels; at.next())
      f(at.line / Order::kChannels, at.item * kRun, at.line % Order::kChannels, run);
  }
}

template <class Order, class F>
__device__ __forceinline__ void for_each_run(int rows, int width, bool vectors, const F& f) {
  if (vectors) for_each_run_of<Order, Order::kVector>(rows, width, f);
  else for_each_run_of<Order, 1>(rows, width, f);
}

// Copies channels [channel, channel + kChannels) of rows x width pixels from (y, x) on to shared memory, with zeros
// outside the image and past `depth`.
template <class Order, class T>
__device__ __forceinline__ void load_chunk(T* to, const Order& order, Plane<const T> from, const Image& image, int y,
                                           int x, int rows, int width, int channel, int depth, bool vectors) {
  for_each_run<Order>(rows, width, vectors, [&](int i, int j, int c, auto run) {
    const bool valid = inside(image, y + i, x + j) && channel + c < depth;
    const T* const source = valid ? from.at(channel + c, y + i, x + j) : from.data;
    if constexpr (decltype(run)::value == 1) copy_element(to + order.at(i, j, c), source, valid);
    else copy_async<decltype(run)::value * sizeof(T)>(to + order.at(i, j, c), source, valid);
  });
}

template <int kBytes>
struct alignas(kBytes) Bytes {
  uint32_t words[kBytes / 4];
};

template <class Order, class T>
__device__ __forceinline__ void store_chunk(Plane<T> to, const T* from, const Order& order, const Image& image, int y,
                                            int x, int rows, int width, int channel, int depth, bool vectors) {
  for_each_run<Order>(rows, width, vectors, [&](int i, int j, int c, auto run) {
    if (!inside(image, y + i, x + j) || channel + c >= depth) return;
    const T* const source = from + order.at(i, j, c);
    T* const target = to.at(channel + c, y + i, x + j);
    if constexpr (decltype(run)::value == 1) *target = *source;
    else {
      using Run = Bytes<decltype(run)::value * sizeof(T)>;
      *reinterpret_cast<Run*>(target) = *reinterpret_cast<const Run*>(source);
    }
  });
}

// Waits for all but the latest `stages` - 2 chunks.
__device__ __forceinline__ void wait_for_chunk(int stages) {
  if (stages > 2) cp_async_wait<1>();
  else cp_async_wait<0>();
}

// Taps of a tile with `halo` columns on either side. A warp that gathers its band takes one number from each plane.
// Planes lie 4 words apart modulo 32, so that 16-bit numbers meet no bank twice, and float32 one other at most.
template <class T>
__host__ __device__ inline Taps band_taps(int rows, int columns, int halo) {
  constexpr int kLine = 128 / sizeof(T);
  const int width = columns + 2 * halo;
  return {rows, width, int(divide_up(rows * width, kLine) * kLine + 16 / sizeof(T))};
}

}  // namespace svconv::cuda

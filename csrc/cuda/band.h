// Tiles and fragments of the tensor-core kernels (float16, bfloat16; K = 3, 5, 7, 9). docs/cuda.md has the derivation.
//
// A warp works on 8 pixels in each of kRows rows. Its window is 16 columns wide and starts kHalo columns before the
// pixels: one mma.m16n8k16 multiplies a row of the window with the band of one tap row.
#pragma once

#include "copy.h"

namespace svconv::cuda {

constexpr int kRows = 4;    // of a warp
constexpr int kPixels = 8;  // of a warp in a row
constexpr int kChunk = 32;  // channels in shared memory at a time
constexpr int kStep = 16;   // channels of one mma

// How a chunk of channels lies in shared memory, following the tensor:
//   channels inside (channels-last):  [row][column][kChunk], 16-byte vectors swizzled so that the 8 pixels of an
//                                     ldmatrix fall on different banks
//   columns inside (NCHW):            [row][kChunk][columns], columns an odd number of 16-byte vectors for the same end
template <bool kChannelsInside>
struct ChunkOrder {
  static constexpr int kVector = kChannelsInside ? 8 : 4;  // elements of one copy: 16 and 8 bytes
  int columns;

  __device__ __forceinline__ int at(int row, int column, int channel) const {
    if constexpr (kChannelsInside)
      return (row * columns + column) * kChunk + (((channel / 8) ^ (column / 2 % 4)) * 8) + channel % 8;
    else return (row * kChunk + channel) * columns + column;
  }
  __device__ __forceinline__ int row_pitch() const { return columns * kChunk; }
  // The offset `channels` (0 or kStep) on from an offset in channels [0, kStep). A step is bit 1 of the swizzled
  // vector.
  __device__ __forceinline__ int step(int offset, int channels) const {
    return kChannelsInside ? offset ^ channels : offset + channels * columns;
  }

  // The row that this lane names in an 8x8 matrix load or store of matrix (column + 8 * right, channel + 8 * upper).
  __device__ __forceinline__ int matrix_row(int row, int column, int channel, int right, int upper) const {
    const int line = threadIdx.x % 8;
    return kChannelsInside ? at(row, column + 8 * right + line, channel + 8 * upper)
                           : at(row, column + 8 * right, channel + 8 * upper + line);
  }

  // Calls f(row, column, channel, elements at once) for every run of a block of rows x width x kChunk.
  template <class F>
  __device__ __forceinline__ void for_each_run(int rows, int width, bool vectors, const F& f) const {
    if (vectors) runs<kVector>(rows, width, f);
    else runs<1>(rows, width, f);
  }

 private:
  template <int kRun, class F>
  __device__ __forceinline__ void runs(int rows, int width, const F& f) const {
    const std::integral_constant<int, kRun> run;
    if constexpr (kChannelsInside) {
      constexpr int kRunsOfPixel = kChunk / kRun;
      for (Walk at(threadIdx.x, blockDim.x, width * kRunsOfPixel); at.line < rows; at.next())
        f(at.line, at.item / kRunsOfPixel, at.item % kRunsOfPixel * kRun, run);
    } else {
      for (Walk at(threadIdx.x, blockDim.x, width / kRun); at.line < rows * kChunk; at.next())
        f(at.line / kChunk, at.item * kRun, at.line % kChunk, run);
    }
  }
};

// Channels [channel, channel + kChunk) of rows x width pixels from (y, x) on, zeros outside the image and past `depth`.
template <bool kChannelsInside, class T>
__device__ __forceinline__ void load_chunk(T* to, ChunkOrder<kChannelsInside> order, Plane<const T> from,
                                           const Image& image, int y, int x, int rows, int width, int channel,
                                           int depth, bool vectors) {
  order.for_each_run(rows, width, vectors, [&](int i, int j, int c, auto run) {
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

template <bool kChannelsInside, class T>
__device__ __forceinline__ void store_chunk(Plane<T> to, const T* from, ChunkOrder<kChannelsInside> order,
                                            const Image& image, int y, int x, int rows, int width, int channel,
                                            int depth, bool vectors) {
  order.for_each_run(rows, width, vectors, [&](int i, int j, int c, auto run) {
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

// Matrix loads in the sense of the fragment: its first index along rows of shared memory, or along their elements.
template <bool kTransposed>
__device__ __forceinline__ void load_fragment(uint32_t (&r)[4], const void* row) {
  if constexpr (kTransposed) ldmatrix_x4_trans(r, row);
  else ldmatrix_x4(r, row);
}

// Waits for all but the latest `stages` - 2 chunks.
__device__ __forceinline__ void wait_for_chunk(int stages) {
  if (stages > 2) cp_async_wait<1>();
  else cp_async_wait<0>();
}

// Taps of a tile with its halo; planes 4 words apart modulo 32 banks, so that a warp's gather of the band meets no bank
// twice.
__host__ __device__ inline Taps band_taps(int rows, int columns) {
  return {rows, columns + 2 * kHalo, int(divide_up(rows * (columns + 2 * kHalo), 64) * 64 + 8)};
}

}  // namespace svconv::cuda

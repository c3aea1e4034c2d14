// Tiles of the float32 kernels (K = 3, 5, 7, 9): exact products on the ordinary cores. A thread works on runs of 8
// pixels in a row, whose window of 16 columns starts kHalo columns before them.
#pragma once

#include "copy.h"
#include "paths.h"

namespace svconv::cuda {

constexpr int kRun = 8;
constexpr int kWindow = kRun + 2 * kHalo;

// Channels in shared memory: [channel][row][row_pitch], whatever the tensor's layout. Planes lie 4 words apart modulo
// 32 banks, so that 8 channels x 4 columns meet no bank twice; so do the rows, padded by 4.
struct Planes {
  int rows, columns, row_pitch, pitch;
  __host__ __device__ Planes(int rows, int columns)
      : rows(rows),
        columns(columns),
        row_pitch(columns + 4),
        pitch(int(divide_up(rows * row_pitch - 4, 32) * 32 + 4)) {}
};

// Copies channels [channel, channel + kChannels) of the pixels from (y, x) on to shared memory, with zeros outside the
// image and past `depth`.
template <int kChannels>
__device__ __forceinline__ void load_planes(float* to, const Planes& planes, Plane<const float> from,
                                            const Image& image, int y, int x, int channel, int depth, bool vectors) {
  const auto copy = [&](int i, int j, int c, auto run) {
    const bool valid = inside(image, y + i, x + j) && channel + c < depth;
    copy_async<4 * decltype(run)::value>(to + c * planes.pitch + i * planes.row_pitch + j,
                                         valid ? from.at(channel + c, y + i, x + j) : from.data, valid);
  };
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 4> four;
  if (vectors) {
    for (Walk at(threadIdx.x, blockDim.x, planes.columns / 4); at.line < planes.rows * kChannels; at.next())
      copy(at.line / kChannels, at.item * 4, at.line % kChannels, four);
  } else if (from.c == 1) {
    // 8 channels are one sector of memory.
    constexpr int kOctets = kChannels / 8;
    for (Walk at(threadIdx.x, blockDim.x, planes.columns * 8); at.line < planes.rows * kOctets; at.next())
      copy(at.line / kOctets, at.item / 8, at.line % kOctets * 8 + at.item % 8, one);
  } else {
    for (Walk at(threadIdx.x, blockDim.x, planes.columns); at.line < planes.rows * kChannels; at.next())
      copy(at.line / kChannels, at.item, at.line % kChannels, one);
  }
}

// Starts the chunk `stages` - 1 on and waits for the one to be computed.
template <class F>
__device__ __forceinline__ void next_chunk(int chunk, int stages, const F& load) {
  __syncthreads();
  load(chunk + stages - 1);
  if (stages > 1) cp_async_wait<1>();
  else cp_async_wait<0>();
  __syncthreads();
}

}  // namespace svconv::cuda

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
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (vectors) {
    // 8, 4 or 2 lanes to a row of a channel. Of 8 a width of 24 leaves some idle: two rows would meet on a bank.
    const int lanes = planes.columns > 16 ? 8 : planes.columns > 8 ? 4 : 2, rows = 32 / lanes;
    const int j = lane % lanes * 4;
    if (j >= planes.columns) return;
    const bool inside_columns = unsigned(x + j) < unsigned(image.width);
#pragma unroll 1
    for (int c = warp * rows + lane / lanes; c < kChannels; c += warps * rows) {
      const bool valid = inside_columns && channel + c < depth;
      const float* source = from.at(channel + c, y, x + j);
      float* target = to + c * planes.pitch + j;
#pragma unroll 1
      for (int i = 0; i < planes.rows; ++i, source += from.h, target += planes.row_pitch)
        copy_async<16>(target, source, valid && unsigned(y + i) < unsigned(image.height));
    }
  } else if (from.c == 1) {
    // 8 channels are one sector of memory.
#pragma unroll 1
    for (int c = lane % 8; c < kChannels; c += 8)
#pragma unroll 1
      for (int i = warp; i < planes.rows; i += warps) {
        const bool valid = unsigned(y + i) < unsigned(image.height) && channel + c < depth;
        const float* source = from.at(channel + c, y + i, x + lane / 8);
        float* target = to + c * planes.pitch + i * planes.row_pitch;
#pragma unroll 1
        for (int j = lane / 8; j < planes.columns; j += 4, source += 4 * from.w)
          copy_async<4>(target + j, source, valid && unsigned(x + j) < unsigned(image.width));
      }
  } else {
    for (Walk at(threadIdx.x, blockDim.x, planes.columns); at.line < planes.rows * kChannels; at.next()) {
      const int i = at.line / kChannels, c = at.line % kChannels;
      copy_async<4>(to + c * planes.pitch + i * planes.row_pitch + at.item, from.at(channel + c, y + i, x + at.item),
                    inside(image, y + i, x + at.item) && channel + c < depth);
    }
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

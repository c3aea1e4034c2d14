// forward and grad_input for float32, K = 3, 5, 7, 9. A thread computes 8 pixels x 4 channels: it keeps the weights of
// one tap row in registers for the four. docs/cuda.md has the arithmetic of the tile.
#include "fma.h"

namespace svconv::cuda {
namespace {

constexpr int kThreads = 128;   // at most
constexpr int kChunk = 32;      // channels in shared memory at a time
constexpr int kLanes = 8;       // neighbouring threads on neighbouring channels
constexpr int kOwn = kChunk / kLanes;

// Weights of a tile's pixels: [K * K][rows][columns].
__host__ __device__ Taps weights_of(int rows, int columns) { return {rows, columns, rows * columns}; }

// Takes the softmax over the taps, in place of the logits; one thread works on a pixel.
template <int K>
__device__ void softmax(float* weights, const Taps& taps, const ImageProblem& p, const Image& image, int y, int x,
                        Plane<float> lse, bool write_lse) {
  constexpr int r = K / 2;
  for (Walk at(threadIdx.x, blockDim.x, taps.columns); at.line < taps.rows; at.next()) {
    const int row = y + at.line, column = x + at.item;
    float* const own = weights + at.line * taps.columns + at.item;
    float top = -float(INFINITY), sum = 0;
    for (int tap = 0; tap < K * K; ++tap) {
      if (p.renormalize && !inside(image, row - (tap / K - r), column - (tap % K - r)))
        own[tap * taps.pitch] = -float(INFINITY);
      top = fmaxf(top, own[tap * taps.pitch]);
    }
    for (int tap = 0; tap < K * K; ++tap) {
      const float e = expf(own[tap * taps.pitch] - top);
      own[tap * taps.pitch] = e;
      sum += e;
    }
    for (int tap = 0; tap < K * K; ++tap) own[tap * taps.pitch] /= sum;
    if (write_lse && inside(image, row, column)) *lse.at(0, row, column) = top + logf(sum);
  }
}

// Makes the weights that reach the tile from the log-sum-exp, in place of logits loaded in their shifted places
// (load_logits, kShift).
template <int K>
__device__ void reversed_weights(float* weights, const Taps& taps, const Image& image, int y, int x,
                                 Plane<float> lse) {
  constexpr int r = K / 2;
  for (Walk at(threadIdx.x, blockDim.x, taps.columns); at.line < taps.rows; at.next())
    for (int tap = 0; tap < K * K; ++tap) {
      const int row = y + at.line + tap / K - r, column = x + at.item + tap % K - r;
      float& weight = weights[tap * taps.pitch + at.line * taps.columns + at.item];
      weight = inside(image, row, column) ? expf(weight - *lse.at(0, row, column)) : 0.0f;
    }
}

// Stores a thread's run of pixels from (y, x) on of a channel. Called by whole warps, whose neighbours hold the same
// run of neighbouring channels: two threads store halves of a run together, which are one sector of memory.
__device__ __forceinline__ void store_run(Plane<float> to, const float (&run)[kRun], const Image& image, int y, int x,
                                          int channel, int depth, bool vectors) {
  if (!vectors) {
#pragma unroll
    for (int q = 0; q < kRun; ++q)
      if (inside(image, y, x + q) && channel < depth) *to.at(channel, y, x + q) = run[q];
    return;
  }
  const bool odd = channel % 2 != 0;
  float other[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) other[i] = __shfl_xor_sync(0xffffffffu, odd ? run[i] : run[4 + i], 1);
  const int column = odd ? x + 4 : x, even = channel & ~1;
  if (!inside(image, y, column)) return;
  if (even < depth)
    *reinterpret_cast<float4*>(to.at(even, y, column)) =
        odd ? make_float4(other[0], other[1], other[2], other[3]) : make_float4(run[0], run[1], run[2], run[3]);
  if (even + 1 < depth)
    *reinterpret_cast<float4*>(to.at(even + 1, y, column)) =
        odd ? make_float4(run[4], run[5], run[6], run[7]) : make_float4(other[0], other[1], other[2], other[3]);
}

// 2 blocks an SM: without that number nvcc 13.0 makes do with 128 registers for K = 3 on sm_80, and spills.
template <int K>
__global__ void __launch_bounds__(kThreads, 2) fma_sum(ImageProblem p, Launch launch, bool reversed, Vectors vectors) {
  constexpr int r = K / 2;
  SVCONV_SHARED(float, shared);
  const Tile tile = tile_of_block(p, launch.rows, launch.columns * kRun, launch.splits);
  const Image& image = tile.image;
  const Taps taps = weights_of(tile.rows, tile.columns);
  const Planes planes(tile.rows + K - 1, tile.columns + 2 * kHalo);
  const int depth = int(p.depth), chunks = int(divide_up(depth, kChunk));
  const int first = chunks * tile.split / launch.splits, last = chunks * (tile.split + 1) / launch.splits;
  const Plane<const float> data = image.of<const float>(p.data, depth);
  const Plane<float> result = image.of<float>(p.result, depth);
  float *const weights = shared, *const ring = shared + K * K * taps.pitch;
  const auto load = [&](int chunk) {
    if (chunk < last)
      load_planes<kChunk>(ring + (chunk - first) % launch.stages * kChunk * planes.pitch, planes, data, image,
                          tile.y - r, tile.x - kHalo, chunk * kChunk, depth, vectors.data);
    cp_async_commit();
  };

  load_logits<K, true, 4>(weights, taps, image.of<const float>(p.logits, K * K), image, tile.y, tile.x,
                       reversed, vectors.logits);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  if (p.normalize && reversed)
    reversed_weights<K>(weights, taps, image, tile.y, tile.x, image.lse(p));
  else if (p.normalize)
    softmax<K>(weights, taps, p, image, tile.y, tile.x, image.lse(p), tile.split == 0);
  for (int i = 0; i < launch.stages - 1; ++i) load(first + i);

  const int lane = threadIdx.x % kLanes, run = threadIdx.x / kLanes;
  const int row = run / launch.columns, column = run % launch.columns * kRun;
  // Product row t, column s of the reversed sum is tap (K - 1 - t, K - 1 - s).
  const int sign = reversed ? -1 : 1;
  const float* const own_weights = weights + (reversed ? K * K - 1 : 0) * taps.pitch + row * taps.columns + column;
  for (int chunk = first; chunk < last; ++chunk) {
    next_chunk(chunk, launch.stages, load);
    const float* const own = ring + ((chunk - first) % launch.stages * kChunk + lane) * planes.pitch +
                             (row + K - 1) * planes.row_pitch + column;
    float sum[kOwn][kRun] = {};
#pragma unroll 1
    for (int t = 0; t < K; ++t) {
      float w[K][kRun];
#pragma unroll
      for (int s = 0; s < K; ++s) read_floats(w[s], own_weights + sign * (t * K + s) * taps.pitch);
#pragma unroll
      for (int c = 0; c < kOwn; ++c) {
        float window[kWindow];
        read_floats(window, own + c * kLanes * planes.pitch - t * planes.row_pitch);
#pragma unroll
        for (int s = 0; s < K; ++s)
#pragma unroll
          for (int q = 0; q < kRun; ++q) sum[c][q] = fmaf(w[s][q], window[q + kHalo + r - s], sum[c][q]);
      }
    }
#pragma unroll
    for (int c = 0; c < kOwn; ++c)
      store_run(result, sum[c], image, tile.y + row, tile.x + column, chunk * kChunk + c * kLanes + lane, depth,
                vectors.result);
  }
}

}  // namespace

int64_t fma_sum_bytes(int64_t K, const Launch& launch) {
  const Planes planes(launch.rows + int(K) - 1, launch.columns * kRun + 2 * kHalo);
  const Taps taps = weights_of(launch.rows, launch.columns * kRun);
  return (K * K * taps.pitch + launch.stages * kChunk * planes.pitch) * int64_t(sizeof(float));
}

int run_fma_sum(bool reversed, const Problem& p, const Launch& launch, cudaStream_t stream) {
  const Vectors vectors{aligned_rows(p.data, p, sizeof(float), 4), false,
                        aligned_rows(p.logits, p, sizeof(float), 4), aligned_rows(p.result, p, sizeof(float), 4)};
  const int64_t blocks = count_tiles(p, launch.rows, launch.columns * kRun, launch.splits);
  if (blocks > INT32_MAX) return run_generic(reversed ? Product::grad_input : Product::forward, p, stream);
  return with_kernel_size<3, 9>(p.kernel, [&](auto K) {
    return start_kernel(fma_sum<K>, dim3(blocks), dim3(kLanes * launch.rows * launch.columns),
                        fma_sum_bytes(K, launch), stream, ImageProblem(p), launch, reversed, vectors);
  });
}

}  // namespace svconv::cuda

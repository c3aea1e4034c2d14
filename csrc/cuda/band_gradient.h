// grad_weight for float16, bfloat16 and float32 rounded to tf32: the transposed band product on tensor cores, then the
// softmax's derivative. docs/cuda.md has the derivation and the arithmetic of the tile.
//
// A block computes all taps of a tile of pixels. A warp accumulates [16 window columns x 8 pixels] for each of its rows
// and each tap row, over all channels or, with splits, every `splits`-th step of them; parts are added in a fixed
// order.
#pragma once

#include "band_fragments.h"
#include "paths.h"

namespace svconv::cuda {

constexpr int kGradientThreads = 256;  // at most: the sums of K = 9 take 144 registers a thread

// Shared memory of a block, in elements.
template <class T>
struct GradientMemory {
  using Order = typename GradientFragments<T, true>::Order;
  int data, chunk, sums, logits;
  __host__ __device__ GradientMemory(int K, int rows, int columns)
      : data((rows + K - 1) * Order(columns).columns * Order::kChannels),
        chunk(data + rows * Order(columns).columns * Order::kChannels),
        sums(K * K * gradient_taps(rows, columns).pitch * int(sizeof(float) / sizeof(T))),
        logits(K * K * band_taps<T>(rows, columns).pitch) {}
  // Planes 3 words apart modulo 32 banks: the scatter of a fragment meets no bank twice.
  __host__ __device__ static Taps gradient_taps(int rows, int columns) {
    return {rows, columns, int(divide_up(rows * columns, 32) * 32 + 3)};
  }
  __host__ __device__ int logits_at(int splits) const { return int(divide_up(splits * sums, 8)) * 8; }
  __host__ __device__ int total(int stages, int splits) const {
    const int ending = logits_at(splits) + logits, running = stages * chunk;
    return ending > running ? ending : running;
  }
};

template <class T, int K, bool kChannelsInside>
__global__ void __launch_bounds__(kGradientThreads, 1) band_gradient(ImageProblem p, Launch launch, Vectors vectors) {
  constexpr int r = K / 2;
  SVCONV_SHARED(T, shared);
  const Tile tile = tile_of_block(p, launch.rows * kRows, launch.columns * kPixels, 1);
  const Image& image = tile.image;
  using Fragments = GradientFragments<T, kChannelsInside>;
  constexpr int kChunk = Fragments::Order::kChannels;
  const GradientMemory<T> memory(K, tile.rows, tile.columns);
  const typename Fragments::Order order(tile.columns);
  const int depth = int(p.channels / p.groups), chunks = int(divide_up(depth, kChunk));
  const Plane<const T> data = image.of<const T>(p, &Problem::data, depth);
  const Plane<const T> grad = image.of<const T>(p, &Problem::grad, depth);
  const auto load = [&](int chunk) {
    T* const to = shared + chunk % launch.stages * memory.chunk;
    if (chunk < chunks) {
      load_chunk(to, order, data, image, tile.y - r, tile.x - kHalo, tile.rows + K - 1, tile.columns + 2 * kHalo,
                 chunk * kChunk, depth, vectors.data);
      load_chunk(to + memory.data, order, grad, image, tile.y, tile.x, tile.rows, tile.columns, chunk * kChunk, depth,
                 vectors.grad);
    }
    cp_async_commit();
  };

  const int warp = threadIdx.x / 32, split = warp / (launch.rows * launch.columns);
  const int row = warp / launch.columns % launch.rows * kRows, column = warp % launch.columns * kPixels;
  const Fragments fragments(order, row, column, memory.data);
  float sum[kRows][K][4] = {};
  for (int chunk = 0; chunk < launch.stages - 1; ++chunk) load(chunk);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    wait_for_chunk(launch.stages);
    __syncthreads();
    load(chunk + launch.stages - 1);
    const T* const source = shared + chunk % launch.stages * memory.chunk;
#pragma unroll 1
    for (int step = split * Fragments::kStep; step < kChunk; step += launch.splits * Fragments::kStep) {
      uint32_t b[kRows][2];
      fragments.load_pixels(b, source, step);
#pragma unroll
      for (int line = 0; line < kRows + K - 1; ++line) {
        uint32_t a[4];
        fragments.load_window(a, source, step, line);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int t = i + K - 1 - line;
          if (t >= 0 && t < K) Fragments::multiply(sum[i][t], a, b[i]);
        }
      }
    }
  }
  __syncthreads();

  // Window column k of pixel q holds tap column s = q + kHalo + r - k.
  const Taps taps = GradientMemory<T>::gradient_taps(tile.rows, tile.columns);
  const Taps from = band_taps<T>(tile.rows, tile.columns);
  float* const dw = reinterpret_cast<float*>(shared);
  const int part_sums = K * K * taps.pitch;
  T* const logits = shared + memory.logits_at(launch.splits);
  if (p.normalize)
    load_logits<K, false>(logits, from, image.of<const T>(p, &Problem::logits, K * K), image, tile.y, tile.x - kHalo,
                          false, vectors.logits);
  cp_async_commit();
#pragma unroll
  for (int entry = 0; entry < 4; ++entry) {
    const int q = 2 * (threadIdx.x % 4) + entry % 2, k = Fragments::column(entry);
    const int s = q + kHalo + r - k;
    if (s < 0 || s >= K) continue;
    float* const own = dw + split * part_sums + s * taps.pitch + row * taps.columns + column + q;
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int t = 0; t < K; ++t) own[t * K * taps.pitch + i * taps.columns] = sum[i][t][entry];
  }
  cp_async_wait<0>();
  __syncthreads();
  if (launch.splits > 1) {
    for (int i = threadIdx.x; i < part_sums; i += blockDim.x)
      for (int part = 1; part < launch.splits; ++part) dw[i] += dw[part * part_sums + i];
    __syncthreads();
  }
  if (p.normalize) {
    softmax_backward<K>(dw, taps, logits, from, kHalo, p, image.lse<float>(p), image, tile.y, tile.x);
    __syncthreads();
  }
  store_taps<K>(image.of<T>(p, &Problem::result, K * K), dw, taps, image, tile.y, tile.x);
}

template <class T>
int run_band_gradient(const Problem& p, const Launch& launch, cudaStream_t stream) {
  const bool channels_inside = p.data.c == 1 && p.grad.c == 1 && p.channels > 1;
  const auto is_aligned = [&](const View& v) {
    return channels_inside ? aligned_channels(v, p, sizeof(T), 16 / sizeof(T)) : aligned_rows(v, p, sizeof(T), 4);
  };
  Vectors vectors;
  vectors.logits = aligned_rows(p.logits, p, sizeof(T), 4);
  vectors.data = is_aligned(p.data);
  vectors.grad = is_aligned(p.grad);
  const int64_t blocks = count_tiles(p, launch.rows * kRows, launch.columns * kPixels, 1);
  if (blocks > INT32_MAX) return run_generic(Product::grad_weight, p, stream);
  return with_kernel_size<kSmallestBand<T>>(p.kernel, [&](auto K) {
    const auto kernel = channels_inside ? band_gradient<T, K, true> : band_gradient<T, K, false>;
    return svconv::cuda::launch(kernel, dim3(blocks), dim3(32 * launch.rows * launch.columns * launch.splits),
                                band_gradient_bytes<T>(K, launch), stream, ImageProblem(p), launch, vectors);
  });
}

template <class T>
int64_t band_gradient_bytes(int64_t K, const Launch& launch) {
  const GradientMemory<T> memory(int(K), launch.rows * kRows, launch.columns * kPixels);
  return memory.total(launch.stages, launch.splits) * int64_t(sizeof(T));
}

}  // namespace svconv::cuda

// grad_weight for float16, bfloat16 and float32 rounded to tf32: the transposed band product on tensor cores, then the
// softmax's derivative. docs/cuda.md has the derivation and the arithmetic of the tile.
//
// A block computes all taps of a tile of pixels. A warp accumulates [16 window columns x 8 pixels] for each of its rows
// and each tap row, over all channels or, with parts, every `parts`-th step of them; their sums are added in a fixed
// order.
#pragma once

#include "band_fragments.h"

namespace svconv::cuda {

// Shared memory of a block, in elements.
template <class T>
struct GradientMemory {
  using Order = typename GradientSums<T, 9, true>::Order;
  int data, chunk, sums, logits;
  __host__ __device__ GradientMemory(int K, int rows, int columns) {
    data = (rows + K - 1) * window_pitch<T>(K, columns + 2 * band_halo(K)) * Order::kChannels;
    chunk = data + rows * own_pitch<T>(columns) * Order::kChannels;
    sums = K * K * gradient_taps(rows, columns).pitch * int(sizeof(float) / sizeof(T));
    logits = K * K * band_taps<T>(rows, columns, band_halo(K)).pitch;
  }
  // Planes 3 words apart modulo 32 banks: the scatter of a fragment meets no bank twice.
  __host__ __device__ static Taps gradient_taps(int rows, int columns) {
    return {rows, columns, int(divide_up(rows * columns, 32) * 32 + 3)};
  }
  __host__ __device__ int logits_at(int parts) const { return int(divide_up(parts * sums, 8)) * 8; }
  __host__ __device__ int total(int stages, int parts) const {
    const int ending = logits_at(parts) + logits, running = stages * chunk;
    return ending > running ? ending : running;
  }
};

template <class T, int K, bool kChannelsInside>
__global__ void __launch_bounds__(kGradientThreads, 1) band_gradient(ImageProblem p, Launch launch, Vectors vectors) {
  constexpr int r = K / 2, halo = band_halo(K), kRows = gradient_rows(K);
  SVCONV_SHARED(T, shared);
  const Tile tile = tile_of_block(p, launch.rows * kRows, launch.columns * kPixels, 1);
  const Image& image = tile.image;
  using Sums = GradientSums<T, K, kChannelsInside>;
  constexpr int kChunk = Sums::Order::kChannels;
  const GradientMemory<T> memory(K, tile.rows, tile.columns);
  const typename Sums::Order order(window_pitch<T>(K, tile.columns + 2 * halo));
  const typename Sums::Order own_order(own_pitch<T>(tile.columns));
  const int depth = int(p.depth), chunks = int(divide_up(depth, kChunk));
  const Plane<const T> data = image.of<const T>(p.data, depth);
  const Plane<const T> grad = image.of<const T>(p.grad, depth);
  const Patch<typename Sums::Order> window(order, image, tile.y - r, tile.x - halo, tile.rows + K - 1,
                                           tile.columns + 2 * halo);
  const Patch<typename Sums::Order> own(own_order, image, tile.y, tile.x, tile.rows, tile.columns);
  const auto load = [&](int chunk, int buffer) {
    T* const to = shared + buffer * memory.chunk;
    if (chunk < chunks) {
      load_chunk(to, window, data, chunk * kChunk, depth, vectors.data);
      load_chunk(to + memory.data, own, grad, chunk * kChunk, depth, vectors.grad);
    }
    cp_async_commit();
  };

  const int warp = threadIdx.x / 32, own_part = warp / (launch.rows * launch.columns);
  const int row = warp / launch.columns % launch.rows * kRows, column = warp % launch.columns * kPixels;
  Sums sums(order, own_order, row, column, memory.data);
  for (int chunk = 0; chunk < launch.stages - 1; ++chunk) load(chunk, chunk);
  Ring ring(launch.stages);
  for (int chunk = 0; chunk < chunks; ++chunk, ring.next()) {
    wait_for_chunk(launch.stages);
    __syncthreads();
    load(chunk + launch.stages - 1, ring.at(launch.stages - 1));
    const T* const source = shared + ring.now * memory.chunk;
#pragma unroll 1
    for (int step = own_part * Sums::kStep; step < kChunk; step += launch.parts * Sums::kStep) sums.add(source, step);
  }
  __syncthreads();

  const Taps taps = GradientMemory<T>::gradient_taps(tile.rows, tile.columns);
  const Taps from = band_taps<T>(tile.rows, tile.columns, halo);
  float* const dw = reinterpret_cast<float*>(shared);
  const int part_sums = K * K * taps.pitch;
  T* const logits = shared + memory.logits_at(launch.parts);
  if (p.normalize)
    load_logits<K, false, kLogitsVector<T>>(logits, from, image.of<const T>(p.logits, K * K), image, tile.y,
                                            tile.x - halo, false, vectors.logits, halo);
  cp_async_commit();
  sums.store(dw + own_part * part_sums + row * taps.columns + column, taps);
  cp_async_wait<0>();
  __syncthreads();
  if (launch.parts > 1) {
    for (int i = threadIdx.x; i < part_sums; i += blockDim.x)
      for (int part = 1; part < launch.parts; ++part) dw[i] += dw[part * part_sums + i];
    __syncthreads();
  }
  if (p.normalize) {
    softmax_backward<K>(dw, taps, logits, from, halo, p, image.lse(p), image, tile.y, tile.x);
    __syncthreads();
  }
  store_taps<K>(image.of<T>(p.result, K * K), dw, taps, image, tile.y, tile.x);
}

template <class T>
int run_band_gradient(const Problem& p, const Launch& launch, cudaStream_t stream) {
  const bool channels_inside = p.data.c == 1 && p.grad.c == 1 && p.channels > 1;
  const auto is_aligned = [&](const View& v) {
    return channels_inside ? aligned_channels(v, p, sizeof(T), 16 / sizeof(T)) : aligned_rows(v, p, sizeof(T), 4);
  };
  Vectors vectors;
  vectors.logits = aligned_rows(p.logits, p, sizeof(T), kLogitsVector<T>);
  vectors.data = is_aligned(p.data);
  vectors.grad = is_aligned(p.grad);
  const int64_t blocks = count_tiles(p, launch.rows * gradient_rows(p.kernel), launch.columns * kPixels, 1);
  if (blocks > INT32_MAX) return run_generic(Product::grad_weight, p, stream);
  return with_kernel_size<kSmallestBand<T>, kLargestBand<T>>(p.kernel, [&](auto K) {
    const auto kernel = channels_inside ? band_gradient<T, K, true> : band_gradient<T, K, false>;
    return start_kernel(kernel, dim3(blocks), dim3(32 * launch.rows * launch.columns * launch.parts),
                        band_gradient_bytes<T>(K, launch), stream, ImageProblem(p), launch, vectors);
  });
}

template <class T>
int64_t band_gradient_bytes(int64_t K, const Launch& launch) {
  const GradientMemory<T> memory(int(K), launch.rows * gradient_rows(K), launch.columns * kPixels);
  return memory.total(launch.stages, launch.parts) * int64_t(sizeof(T));
}

}  // namespace svconv::cuda

// forward and grad_input for float16 and bfloat16, K = 3, 5, 7, 9: the weighted sum as products with band matrices on
// tensor cores. docs/cuda.md has the derivation and the arithmetic of the tile.
//
// A block computes a tile of pixels. Its warps build their bands once, in registers, then all channels pass by in
// chunks, `stages` of them in shared memory.
#pragma once

#include "band_weights.h"
#include "paths.h"

namespace svconv::cuda {

constexpr int kSumThreads = 512;  // at most: 128 registers a thread, of which the bands of K = 9 take 72

// Shared memory of a block, in elements of 2 bytes.
struct SumMemory {
  int chunk, staging, logits, lse;
  __host__ __device__ SumMemory(int K, int rows, int columns)
      : chunk((rows + K - 1) * (columns + 2 * kHalo) * kChunk),
        staging(rows * (columns + 2 * kHalo) * kChunk),
        logits(K * K * band_taps(rows, columns).pitch),
        lse((rows + K - 1) * (columns + 2 * kHalo) * 2) {}
  // Logits lie behind the first chunk, which is under way while the bands are built.
  __host__ __device__ int total(int stages) const {
    const int building = chunk + logits + lse, running = stages * chunk + staging;
    return building > running ? building : running;
  }
};

template <class T, int K, bool kChannelsInside>
__global__ void __launch_bounds__(kSumThreads, 1)
    band_sum(ImageProblem p, Launch launch, bool reversed, Vectors vectors) {
  constexpr int r = K / 2;
  SVCONV_SHARED(T, shared);
  const Tile tile = tile_of_block(p, launch.rows * kRows, launch.columns * kPixels, launch.splits);
  const Image& image = tile.image;
  const SumMemory memory(K, tile.rows, tile.columns);
  const ChunkOrder<kChannelsInside> order{tile.columns + 2 * kHalo};
  const int depth = int(p.channels / p.groups), chunks = int(divide_up(depth, kChunk));
  const int first = chunks * tile.split / launch.splits, last = chunks * (tile.split + 1) / launch.splits;
  const Plane<const T> data = image.of<const T>(p, &Problem::data, depth);
  const Plane<T> result = image.of<T>(p, &Problem::result, depth);
  const auto load = [&](int chunk) {
    if (chunk < last)
      load_chunk(shared + (chunk - first) % launch.stages * memory.chunk, order, data, image, tile.y - r,
                 tile.x - kHalo, tile.rows + K - 1, order.columns, chunk * kChunk, depth, vectors.data);
    cp_async_commit();
  };

  // Rows [row, row + kRows) and columns [column, column + 8) of the tile are the warp's.
  const int warp = threadIdx.x / 32, row = warp / launch.columns * kRows, column = warp % launch.columns * kPixels;
  const Taps taps = band_taps(tile.rows, tile.columns);
  T* const logits = shared + memory.chunk;
  load_logits<K, false>(logits, taps, image.of<const T>(p, &Problem::logits, K * K), image, tile.y, tile.x - kHalo,
                        reversed, vectors.logits);
  cp_async_commit();
  load(first);
  float* const lse = reinterpret_cast<float*>(logits + memory.logits);
  if (reversed && p.normalize)
    load_lse(lse, image.lse<float>(p), image, tile.y - r, tile.x - kHalo, tile.rows + K - 1, taps.columns);
  cp_async_wait<1>();
  __syncthreads();
  Band<K> band = {};
  const T* const own = logits + row * taps.columns + column;
  if (reversed)
    build_reversed_band<T, K>(band, own, taps, p, lse + row * taps.columns + column);
  else
    build_band<T, K>(band, own, taps, p, image, tile.y + row, tile.x + column, image.lse<float>(p), tile.split == 0);
  __syncthreads();
  if (launch.stages > 2) load(first + 1);

  T* const staging = shared + launch.stages * memory.chunk;
  const auto store = [&](int chunk) {
    store_chunk(result, staging, order, image, tile.y, tile.x, tile.rows, tile.columns, chunk * kChunk, depth,
                vectors.result);
  };
  // Matrices of a fragment in the order of its registers: channels 0-7, 8-15 of window columns 0-7, then of 8-15; of
  // results, channels 0-7, 8-15 of one row, then of the next.
  const int matrix = threadIdx.x % 32 / 8;
  const int window = order.matrix_row(row, column, 0, matrix / 2, matrix % 2);
  const int target = order.matrix_row(row + matrix / 2, column, 0, 0, matrix % 2);
  for (int chunk = first; chunk < last; ++chunk) {
    wait_for_chunk(launch.stages);
    __syncthreads();
    load(chunk + launch.stages - 1);
    if (chunk > first) store(chunk - 1);
    __syncthreads();
    const T* const source = shared + (chunk - first) % launch.stages * memory.chunk;
#pragma unroll 1
    for (int step = 0; step < kChunk; step += kStep) {
      float sum[kRows][4] = {};
#pragma unroll
      for (int line = 0; line < kRows + K - 1; ++line) {
        uint32_t a[4];
        load_fragment<kChannelsInside>(a, source + order.step(window, step) + line * order.row_pitch());
        // Row i of the warp meets line i + K - 1 - t with tap row t.
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int t = i + K - 1 - line;
          if (t >= 0 && t < K) mma_m16n8k16<T>(sum[i], a, band[i][t]);
        }
      }
#pragma unroll
      for (int i = 0; i < kRows; i += 2) {
        const uint32_t packed[4] = {pack2<T>(sum[i][0], sum[i][1]), pack2<T>(sum[i][2], sum[i][3]),
                                    pack2<T>(sum[i + 1][0], sum[i + 1][1]), pack2<T>(sum[i + 1][2], sum[i + 1][3])};
        T* const to = staging + order.step(target, step) + i * order.row_pitch();
        if constexpr (kChannelsInside) stmatrix_x4_trans(to, packed);
        else stmatrix_x4(to, packed);
      }
    }
  }
  __syncthreads();
  if (last > first) store(last - 1);
}

template <class T>
int run_band_sum(bool reversed, const Problem& p, const Launch& launch, cudaStream_t stream) {
  const bool channels_inside = p.data.c == 1 && p.result.c == 1 && p.channels > 1;
  Vectors vectors;
  vectors.logits = aligned_rows(p.logits, p, sizeof(T), 4);
  const auto is_aligned = [&](const View& v) {
    return channels_inside ? aligned_channels(v, p, sizeof(T), 8) : aligned_rows(v, p, sizeof(T), 4);
  };
  vectors.data = is_aligned(p.data);
  vectors.result = is_aligned(p.result);
  const int64_t blocks = count_tiles(p, launch.rows * kRows, launch.columns * kPixels, launch.splits);
  if (blocks > INT32_MAX) return run_generic(reversed ? Product::grad_input : Product::forward, p, stream);
  return with_kernel_size(p.kernel, [&](auto K) {
    const auto kernel = channels_inside ? band_sum<T, K, true> : band_sum<T, K, false>;
    return svconv::cuda::launch(kernel, dim3(blocks), dim3(32 * launch.rows * launch.columns),
                                band_sum_bytes(K, launch), stream, ImageProblem(p), launch, reversed, vectors);
  });
}

}  // namespace svconv::cuda

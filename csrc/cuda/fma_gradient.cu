// grad_weight for float32, K = 3, 5, 7, 9. A thread computes one tap row of 8 pixels over all channels, then the block
// takes the softmax's derivative. docs/cuda.md has the arithmetic of the tile.
#include "fma.h"

namespace svconv::cuda {
namespace {

constexpr int kThreads = 160;  // at most: 9 tap rows x 16 runs, in whole warps
constexpr int kChunk = 16;     // channels in shared memory at a time

// Shared memory of a block, in floats.
struct Memory {
  Planes data, grad;
  Taps sums, logits;
  int chunk, logits_at, ending;
  // Sums are written by 8 rows of a tap row, or 4 of each of two: those lie `columns` / 2 words apart modulo 16.
  __host__ __device__ Memory(int K, int rows, int columns)
      : data(rows + K - 1, columns + 2 * kHalo),
        grad(rows, columns),
        sums{rows, columns, rows * columns + columns / 2, columns > kRun},
        logits{rows, columns, rows * columns},
        chunk(kChunk * (data.pitch + grad.pitch)),
        logits_at(K * K * sums.pitch),
        ending(logits_at + K * K * logits.pitch) {}
  __host__ __device__ int total(int stages) const { return stages * chunk > ending ? stages * chunk : ending; }
};

template <int K>
__global__ void __launch_bounds__(kThreads, 2) fma_gradient(ImageProblem p, Launch launch, Vectors vectors) {
  constexpr int r = K / 2;
  SVCONV_SHARED(float, shared);
  const Tile tile = tile_of_block(p, launch.rows, launch.columns * kRun, 1);
  const Image& image = tile.image;
  const Memory memory(K, tile.rows, tile.columns);
  const int depth = int(p.depth), chunks = int(divide_up(depth, kChunk));
  const Plane<const float> data = image.of<const float>(p.data, depth);
  const Plane<const float> grad = image.of<const float>(p.grad, depth);
  const auto load = [&](int chunk) {
    float* const to = shared + chunk % launch.stages * memory.chunk;
    if (chunk < chunks) {
      load_planes<kChunk>(to, memory.data, data, image, tile.y - r, tile.x - kHalo, chunk * kChunk, depth,
                          vectors.data);
      load_planes<kChunk>(to + kChunk * memory.data.pitch, memory.grad, grad, image, tile.y, tile.x, chunk * kChunk,
                          depth, vectors.grad);
    }
    cp_async_commit();
  };
  for (int chunk = 0; chunk < launch.stages - 1; ++chunk) load(chunk);

  // Neighbouring threads on neighbouring rows, then tap rows: the rows of input and of grad_out that 8 of them read are
  // the same or lie on different banks.
  const int row = threadIdx.x % launch.rows, t = threadIdx.x / launch.rows % K;
  const int column = threadIdx.x / (launch.rows * K) * kRun;
  const bool active = column < tile.columns;
  float sum[K][kRun] = {};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    next_chunk(chunk, launch.stages, load);
    if (!active) continue;
    const float* const source = shared + chunk % launch.stages * memory.chunk;
    const float* const own = source + (row + K - 1 - t) * memory.data.row_pitch + column;
    const float* const own_grad =
        source + kChunk * memory.data.pitch + row * memory.grad.row_pitch + column;
#pragma unroll 1
    for (int c = 0; c < kChunk; ++c) {
      float window[kWindow], g[kRun];
      read_floats(window, own + c * memory.data.pitch);
      read_floats(g, own_grad + c * memory.grad.pitch);
#pragma unroll
      for (int s = 0; s < K; ++s)
#pragma unroll
        for (int q = 0; q < kRun; ++q) sum[s][q] = fmaf(g[q], window[q + kHalo + r - s], sum[s][q]);
    }
  }
  __syncthreads();

  float *const dw = shared, *const logits = shared + memory.logits_at;
  if (p.normalize)
    load_logits<K, false, 4>(logits, memory.logits, image.of<const float>(p.logits, K * K), image, tile.y, tile.x,
                             false, vectors.logits);
  cp_async_commit();
  if (active) {
#pragma unroll
    for (int s = 0; s < K; ++s)
#pragma unroll
      for (int q = 0; q < kRun; q += 4)
        *reinterpret_cast<float4*>(dw + (t * K + s) * memory.sums.pitch + memory.sums.at(row, column + q)) =
            make_float4(sum[s][q], sum[s][q + 1], sum[s][q + 2], sum[s][q + 3]);
  }
  cp_async_wait<0>();
  __syncthreads();
  if (p.normalize) {
    softmax_backward<K>(dw, memory.sums, logits, memory.logits, 0, p, image.lse(p), image, tile.y, tile.x);
    __syncthreads();
  }
  store_taps<K>(image.of<float>(p.result, K * K), dw, memory.sums, image, tile.y, tile.x);
}

}  // namespace

int64_t fma_gradient_bytes(int64_t K, const Launch& launch) {
  return Memory(int(K), launch.rows, launch.columns * kRun).total(launch.stages) * int64_t(sizeof(float));
}

int run_fma_gradient(const Problem& p, const Launch& launch, cudaStream_t stream) {
  const Vectors vectors{aligned_rows(p.data, p, sizeof(float), 4), aligned_rows(p.grad, p, sizeof(float), 4),
                        aligned_rows(p.logits, p, sizeof(float), 4), false};
  const int64_t blocks = count_tiles(p, launch.rows, launch.columns * kRun, 1);
  if (blocks > INT32_MAX) return run_generic(Product::grad_weight, p, stream);
  return with_kernel_size<3, 9>(p.kernel, [&](auto K) {
    const int threads = int(divide_up(K * launch.rows * launch.columns, 32) * 32);
    return start_kernel(fma_gradient<K>, dim3(blocks), dim3(threads), fma_gradient_bytes(K, launch), stream,
                        ImageProblem(p), launch, vectors);
  });
}

}  // namespace svconv::cuda

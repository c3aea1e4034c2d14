// forward and grad_input for float16, bfloat16 and float32 rounded to tf32: the weighted sum as products with band
// matrices on tensor cores. docs/cuda.md has the derivation and the arithmetic of the tile.
//
// A block computes a tile of pixels. Its warps build their bands once, in registers, then all channels pass by in
// chunks, `stages` of them in shared memory.
#pragma once

#include "band_fragments.h"

namespace svconv::cuda {

// Results of 16-bit types pass through shared memory on their way to the tensor, to be stored 8 or 16 bytes at a time.
// In float32 a lane's own results are that long.
template <class T>
constexpr bool kStaged = sizeof(T) == 2;

// Shared memory of a block, in elements.
template <class T>
struct SumMemory {
  using Order = typename SumFragments<T, 9, true>::Order;
  int chunk, staging, logits, lse;
  __host__ __device__ SumMemory(int K, int rows, int columns) {
    const int width = columns + 2 * band_halo(K);
    chunk = (rows + K - 1) * window_pitch<T>(K, width) * Order::kChannels;
    staging = kStaged<T> ? rows * own_pitch<T>(columns) * Order::kChannels : 0;
    logits = K * K * band_taps<T>(rows, columns, band_halo(K)).pitch;
    lse = (rows + K - 1) * width * int(sizeof(float) / sizeof(T));
  }
  // Logits lie behind the first chunk, which is under way while the bands are built.
  __host__ __device__ int total(int stages) const {
    const int building = chunk + logits + lse, running = stages * chunk + staging;
    return building > running ? building : running;
  }
};

// Stores the sums of one row of pixels from (y, x) on and of the channels from `channel` on; a warp's lanes hold them
// as SumFragments<float> says.
template <bool kChannelsInside, class Sums>
__device__ __forceinline__ void store_sums(Plane<float> to, const Sums& sum, const Image& image, int y, int x,
                                           int channel, int depth, bool vectors) {
  using Fragments = SumFragments<float, 9, kChannelsInside>;
  const int column = x + 2 * (threadIdx.x % 4);
  if (y >= image.height) return;
  if constexpr (kChannelsInside)
    if (vectors) {
#pragma unroll
      for (int p = 0; p < 2; ++p)
        if (column + p < image.width && channel + Fragments::channel(0) < depth)
          *reinterpret_cast<float4*>(to.at(channel + Fragments::channel(0), y, column + p)) =
              make_float4(sum[0][p], sum[0][2 + p], sum[1][p], sum[1][2 + p]);
      return;
    }
#pragma unroll
  for (int j = 0; j < 2 * Fragments::kTiles; ++j) {
    const int own = channel + Fragments::channel(j);
    const float left = sum[j / 2][j % 2 * 2], right = sum[j / 2][j % 2 * 2 + 1];
    if (own >= depth || column >= image.width) continue;
    if (vectors) *reinterpret_cast<float2*>(to.at(own, y, column)) = make_float2(left, right);
    else {
      *to.at(own, y, column) = left;
      if (column + 1 < image.width) *to.at(own, y, column + 1) = right;
    }
  }
}

template <class T, int K, bool kChannelsInside>
__global__ void __launch_bounds__(sum_threads(sizeof(T), K), 1)
    band_sum(ImageProblem p, Launch launch, bool reversed, Vectors vectors) {
  constexpr int r = K / 2, halo = band_halo(K);
  SVCONV_SHARED(T, shared);
  Tile tile = tile_of_block(p, launch.rows * kRows, launch.columns * kPixels, launch.splits);
  const Image& image = tile.image;
  using Fragments = SumFragments<T, K, kChannelsInside>;
  constexpr int kChunk = Fragments::Order::kChannels;
  SumMemory<T> memory(K, tile.rows, tile.columns);
  typename Fragments::Order order(window_pitch<T>(K, tile.columns + 2 * halo));
  typename Fragments::Order own_order(own_pitch<T>(tile.columns));
  const int depth = int(p.depth), chunks = int(divide_up(depth, kChunk));
  int first = chunks * tile.split / launch.splits, last = chunks * (tile.split + 1) / launch.splits;
  Plane<const T> data = image.of<const T>(p.data, depth);
  Plane<T> result = image.of<T>(p.result, depth);
  using Pixels = Patch<typename Fragments::Order>;
  const auto window = [&](int width) {
    return Pixels(order, image, tile.y - r, tile.x - halo, tile.rows + K - 1, width);
  };
  const auto load = [&](const Pixels& pixels, int chunk, int buffer) {
    if (chunk < last)
      load_chunk(shared + buffer * memory.chunk, pixels, data, chunk * kChunk, depth, vectors.data);
    cp_async_commit();
  };

  // Rows [row, row + kRows) and columns [column, column + 8) of the tile are the warp's.
  const int warp = threadIdx.x / 32;
  int row = warp / launch.columns * kRows, column = warp % launch.columns * kPixels;
  // Building the bands of K = 13 takes all registers. What is wanted behind it isn't kept but worked out once more.
  const auto work_out_anew = [&] {
    const int rows = anew(launch.rows, 0), columns = anew(launch.columns, 0);
    tile = tile_of_block(p, rows * kRows, columns * kPixels, launch.splits);
    row = warp / columns * kRows, column = warp % columns * kPixels;
    memory = SumMemory<T>(K, tile.rows, tile.columns);
    order = typename Fragments::Order(window_pitch<T>(K, tile.columns + 2 * halo));
    own_order = typename Fragments::Order(own_pitch<T>(tile.columns));
    first = chunks * tile.split / launch.splits, last = chunks * (tile.split + 1) / launch.splits;
    data = image.of<const T>(p.data, depth), result = image.of<T>(p.result, depth);
  };
  const Taps taps = band_taps<T>(tile.rows, tile.columns, halo);
  T* const logits = shared + memory.chunk;
  load_logits<K, false, kLogitsVector<T>>(logits, taps, image.of<const T>(p.logits, K * K), image, tile.y,
                                          tile.x - halo, reversed, vectors.logits, reversed ? 0 : halo);
  cp_async_commit();
  load(window(taps.columns), first, 0);
  float* const lse = reinterpret_cast<float*>(logits + memory.logits);
  if (reversed && p.normalize)
    load_lse(lse, image.lse(p), image, tile.y - r, tile.x - halo, tile.rows + K - 1, taps.columns);
  cp_async_wait<1>();
  __syncthreads();
  Band<T, K> band = {};
  const T* const own_logits = logits + row * taps.columns + column;
  if (reversed)
    build_reversed_band<T, K>(band, own_logits, taps, p, lse + row * taps.columns + column);
  else
    build_band<T, K>(band, own_logits, taps, p, image, tile.y + row, tile.x + column, image.lse(p), tile.split == 0);
  __syncthreads();

  if constexpr (K > 11) work_out_anew();
  // What the copies need would be kept from the first on, in registers that building the bands lacks.
  const Pixels pixels = window(anew(tile.columns + 2 * halo, 0));
  if (launch.stages > 2) load(pixels, first + 1, 1);
  T* const staging = shared + launch.stages * memory.chunk;
  const auto store = [&](int chunk) {
    // Found anew for every chunk: kept from one to the next it costs registers.
    const Pixels own(own_order, image, tile.y, tile.x, tile.rows, tile.columns);
    store_chunk(result, own, staging, chunk * kChunk, depth, vectors.result);
  };
  // The matrices of results in the order of their registers:
  //   register   0      1      2      3
  //   channels   0-7    8-15   0-7    8-15
  //   row        i      i      i + 1  i + 1
  const int matrix = threadIdx.x % 32 / 8;
  const int target = matrix_row(own_order, row + matrix / 2, column, 0, 0, matrix % 2);
  const Fragments fragments(order, row, column);
  Ring ring(launch.stages);
  for (int chunk = first; chunk < last; ++chunk, ring.next()) {
    wait_for_chunk(launch.stages);
    __syncthreads();
    load(pixels, chunk + launch.stages - 1, ring.at(launch.stages - 1));
    if constexpr (kStaged<T>) {
      if (chunk > first) store(chunk - 1);
      __syncthreads();
    }
    const T* const source = shared + ring.now * memory.chunk;
#pragma unroll 1
    for (int step = 0; step < kChunk; step += Fragments::kStep) {
      typename Fragments::Sums sum[kRows] = {};
#pragma unroll
      for (int line = 0; line < kRows + K - 1; ++line) {
        typename Fragments::Window a;
        fragments.load(a, source, step, line);
        // Row i of the warp meets line i + K - 1 - t with tap row t.
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const int t = i + K - 1 - line;
          if (t >= 0 && t < K) Fragments::multiply(sum[i], a, band[i][t]);
        }
      }
      if constexpr (kStaged<T>) {
#pragma unroll
        for (int i = 0; i < kRows; i += 2) {
          const uint32_t packed[4] = {pack2<T>(sum[i][0], sum[i][1]), pack2<T>(sum[i][2], sum[i][3]),
                                      pack2<T>(sum[i + 1][0], sum[i + 1][1]), pack2<T>(sum[i + 1][2], sum[i + 1][3])};
          T* const to = staging + own_order.step(target, step) + i * own_order.row_pitch();
          if constexpr (kChannelsInside) stmatrix_x4_trans(to, packed);
          else stmatrix_x4(to, packed);
        }
      } else {
#pragma unroll
        for (int i = 0; i < kRows; ++i)
          store_sums<kChannelsInside>(result, sum[i], image, tile.y + row + i, tile.x + column, chunk * kChunk + step,
                                      depth, vectors.result);
      }
    }
  }
  if constexpr (kStaged<T>) {
    __syncthreads();
    if (last > first) store(last - 1);
  }
}

template <class T>
int run_band_sum(bool reversed, const Problem& p, const Launch& launch, cudaStream_t stream) {
  const bool channels_inside = p.data.c == 1 && p.result.c == 1 && p.channels > 1;
  const auto is_aligned = [&](const View& v, int of_channels, int of_rows) {
    return channels_inside ? aligned_channels(v, p, sizeof(T), of_channels) : aligned_rows(v, p, sizeof(T), of_rows);
  };
  constexpr int kChannels = 16 / sizeof(T);
  Vectors vectors;
  vectors.logits = aligned_rows(p.logits, p, sizeof(T), kLogitsVector<T>);
  vectors.data = is_aligned(p.data, kChannels, 4);
  vectors.result = is_aligned(p.result, kChannels, kStaged<T> ? 4 : 2);
  const int64_t blocks = count_tiles(p, launch.rows * kRows, launch.columns * kPixels, launch.splits);
  if (blocks > INT32_MAX) return run_generic(reversed ? Product::grad_input : Product::forward, p, stream);
  return with_kernel_size<kSmallestBand<T>, kLargestBand<T>>(p.kernel, [&](auto K) {
    const auto kernel = channels_inside ? band_sum<T, K, true> : band_sum<T, K, false>;
    return start_kernel(kernel, dim3(blocks), dim3(32 * launch.rows * launch.columns),
                        band_sum_bytes<T>(K, launch), stream, ImageProblem(p), launch, reversed, vectors);
  });
}

template <class T>
int64_t band_sum_bytes(int64_t K, const Launch& launch) {
  const SumMemory<T> memory(int(K), launch.rows * kRows, launch.columns * kPixels);
  return memory.total(launch.stages) * int64_t(sizeof(T));
}

}  // namespace svconv::cuda

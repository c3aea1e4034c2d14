// Loads the fragments of the tensor-core products from a chunk in shared memory to registers: in 16-bit types by matrix
// loads, in float32 by vector loads and a rounding to tf32.
//
// The channels and columns behind the rows and columns of a fragment may be any, as long as A, B and what is done with
// D agree. In float32, which has no transposed matrix load, they are those that a lane reads at once without a bank
// conflict.
#pragma once

#include "band_weights.h"

namespace svconv::cuda {

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  if constexpr (kTransposed) ldmatrix_x4_trans(r, row);
  else ldmatrix_x4(r, row);
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[2], const void* row) {
  if constexpr (kTransposed) ldmatrix_x2_trans(r, row);
  else ldmatrix_x2(r, row);
}

// The row that this lane names in an 8x8 matrix load or store of matrix (column + 8 * right, channel + 8 * upper).
template <class Order>
__device__ __forceinline__ int matrix_row(const Order& order, int row, int column, int channel, int right, int upper) {
  const int line = threadIdx.x % 8;
  return Order::kChannelsInside ? order.at(row, column + 8 * right + line, channel + 8 * upper)
                                : order.at(row, column + 8 * right, channel + 8 * upper + line);
}

// The offset from a column to the 16th after it, which is swizzled alike.
template <class Order>
__device__ __forceinline__ constexpr int sixteen_columns() {
  return Order::kChannelsInside ? 16 * Order::kChannels : 16;
}

// forward and grad_input, D[channels x 8 pixels] += A[channels x columns] * B[columns x 8 pixels], of the warp whose
// window starts at (row, column) of the chunk: 16 columns, with K > 9 24.
template <class T, int K, bool kChannelsInside>
struct SumFragments {
  using Order = ChunkOrder<T, kChannelsInside, 32>;
  struct Window {
    uint32_t left[4], right[2];
  };
  using Sums = float[4];
  static constexpr int kStep = 16;  // channels of a product
  const Order& order;
  int window;

  // The matrices in the order of their registers:
  //   register   0      1      2      3
  //   channels   0-7    8-15   0-7    8-15
  //   columns    0-7    0-7    8-15   8-15
  __device__ __forceinline__ SumFragments(const Order& order, int row, int column) : order(order) {
    const int matrix = threadIdx.x % 32 / 8;
    window = matrix_row(order, row, column, 0, matrix / 2, matrix % 2);
  }
  __device__ __forceinline__ void load(Window& a, const T* chunk, int channel, int line) const {
    const T* const from = chunk + order.step(window, channel) + line * order.row_pitch();
    load_matrices<kChannelsInside>(a.left, from);
    if constexpr (K > 9) load_matrices<kChannelsInside>(a.right, from + sixteen_columns<Order>());
  }
  __device__ __forceinline__ static void multiply(Sums& sum, const Window& a,
                                                  const uint32_t (&band)[kBandRegisters<T, K>]) {
    mma_m16n8k16<T>(sum, a.left, {band[0], band[1]});
    if constexpr (K > 9) mma_m16n8k8<T>(sum, a.right, band[2]);
  }
};

// A lane reads 4 neighbouring columns of each of its channels. With g = lane / 4 and t = lane % 4:
//
//                     channels of the lane                         columns of the lane    products of 16 channels
//   channels inside   4 g .. 4 g + 3                               4 t .. 4 t + 3         2
//   columns inside    g with its lower bits exchanged, 8 further   4 t .. 4 t + 3         1
//
// A product takes 8 columns at a time, so that the window's 16 are two steps.
template <int K, bool kChannelsInside>
struct SumFragments<float, K, kChannelsInside> {
  using Order = ChunkOrder<float, kChannelsInside, 32>;
  static constexpr int kTiles = kChannelsInside ? 2 : 1;  // of 16 channels
  static constexpr int kStep = 16 * kTiles;
  using Window = uint32_t[kTiles][2][4];
  using Sums = float[kTiles][4];
  const Order& order;
  int window;

  // The lane's channel j of D: row lane / 4 of tile j / 2, or 8 rows on for an odd j.
  __device__ __forceinline__ static int channel(int j) {
    const int g = threadIdx.x % 32 / 4;
    // Lanes of neighbouring g read channels 2 apart: 8 lanes meet no bank twice.
    return kChannelsInside ? 4 * g + j : 8 * j + (g & 4) + g % 2 * 2 + g / 2 % 2;
  }
  __device__ __forceinline__ SumFragments(const Order& order, int row, int column)
      : order(order), window(order.at(row, column + 4 * (threadIdx.x % 4), channel(0))) {}

  __device__ __forceinline__ void load(Window& a, const float* chunk, int channel, int line) const {
    const float* const from = chunk + order.step(window, channel) + line * order.row_pitch();
    float read[4][4];  // [channels][columns]
#pragma unroll
    for (int i = 0; i < (kChannelsInside ? 4 : 2); ++i) {
      float four[4];
      read_floats(four, from + i * (kChannelsInside ? Order::kChannels : 8 * order.columns));
#pragma unroll
      for (int j = 0; j < 4; ++j) (kChannelsInside ? read[j][i] : read[i][j]) = four[j];
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int n = 0; n < 4; ++n) a[tile][half][n] = tf32_operand(read[2 * tile + n % 2][2 * half + n / 2]);
  }
  __device__ __forceinline__ static void multiply(Sums& sum, const Window& a, const uint32_t (&band)[4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t b[2] = {band[2 * half], band[2 * half + 1]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma_m16n8k8_tf32(sum[tile], a[tile][half], b);
    }
  }
};

// grad_weight with K <= 9, D[16 columns x 8 pixels] += A[16 columns x channels] * B[channels x 8 pixels], of the warp
// whose window starts at (row, column) of the chunk of input. Its pixels start at (row, column) of the chunk of
// grad_out, which lies `pixels` elements after that of input, in an order of its own.
template <class T, int K, bool kChannelsInside>
struct GradientFragments {
  using Order = ChunkOrder<T, kChannelsInside, 32>;
  static constexpr int kStep = 16;  // channels of a product
  const Order &order, &own;
  int window, pixels;

  // The matrices in the order of their registers:
  //   register              0      1      2      3
  //   input     columns     0-7    8-15   0-7    8-15
  //             channels    0-7    0-7    8-15   8-15
  //   grad_out  channels    0-7    8-15   0-7    8-15
  //             row         i      i      i + 1  i + 1
  __device__ __forceinline__ GradientFragments(const Order& order, const Order& own, int row, int column, int pixels)
      : order(order), own(own) {
    const int matrix = threadIdx.x % 32 / 8;
    window = matrix_row(order, row, column, 0, matrix % 2, matrix / 2);
    this->pixels = pixels + matrix_row(own, row + matrix / 2, column, 0, 0, matrix % 2);
  }
  __device__ __forceinline__ void load_pixels(uint32_t (&b)[kRows][2], const T* chunk, int channel) const {
#pragma unroll
    for (int i = 0; i < kRows; i += 2) {
      uint32_t two[4];
      load_matrices<!kChannelsInside>(two, chunk + own.step(pixels, channel) + i * own.row_pitch());
      b[i][0] = two[0], b[i][1] = two[1], b[i + 1][0] = two[2], b[i + 1][1] = two[3];
    }
  }
  __device__ __forceinline__ void load_window(uint32_t (&a)[4], const T* chunk, int channel, int line) const {
    load_matrices<!kChannelsInside>(a, chunk + order.step(window, channel) + line * order.row_pitch());
  }
  __device__ __forceinline__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16<T>(sum, a, b);
  }
  // The window column of an entry of a lane's D.
  __device__ __forceinline__ static int column(int entry) { return threadIdx.x % 32 / 4 + entry / 2 * 8; }
};

// A lane reads two neighbours at a time. With g = lane / 4 and t = lane % 4:
//
//                     columns of the lane    channels of the lane
//   channels inside   g, g + 8               2 t, 2 t + 1
//   columns inside    2 g, 2 g + 1           t, t + 4
template <int K, bool kChannelsInside>
struct GradientFragments<float, K, kChannelsInside> {
  using Order = ChunkOrder<float, kChannelsInside, 16>;
  static constexpr int kStep = 8;
  const Order &order, &own;
  int window, pixels;

  __device__ __forceinline__ GradientFragments(const Order& order, const Order& own, int row, int column, int pixels)
      : order(order), own(own) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    window = kChannelsInside ? order.at(row, column + g, 2 * t) : order.at(row, column + 2 * g, t);
    this->pixels = pixels + own.at(row, column + g, kChannelsInside ? 2 * t : t);
  }
  __device__ __forceinline__ void load_pixels(uint32_t (&b)[kRows][2], const float* chunk, int channel) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float* const from = chunk + own.step(pixels, channel) + i * own.row_pitch();
      const float2 v = kChannelsInside ? *reinterpret_cast<const float2*>(from)
                                       : make_float2(from[0], from[4 * own.columns]);
      b[i][0] = tf32_operand(v.x), b[i][1] = tf32_operand(v.y);
    }
  }
  __device__ __forceinline__ void load_window(uint32_t (&a)[4], const float* chunk, int channel, int line) const {
    const float* const from = chunk + order.step(window, channel) + line * order.row_pitch();
    const int on = kChannelsInside ? 8 * Order::kChannels : 4 * order.columns;
    const float2 first = *reinterpret_cast<const float2*>(from), second = *reinterpret_cast<const float2*>(from + on);
    a[0] = tf32_operand(first.x), a[3] = tf32_operand(second.y);
    a[1] = tf32_operand(kChannelsInside ? second.x : first.y);
    a[2] = tf32_operand(kChannelsInside ? first.y : second.x);
  }
  __device__ __forceinline__ static void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k8_tf32(sum, a, b);
  }
  __device__ __forceinline__ static int column(int entry) {
    const int g = threadIdx.x % 32 / 4;
    return kChannelsInside ? g + entry / 2 * 8 : 2 * g + entry / 2;
  }
};

// The sums of a warp in grad_weight: D of each row of pixels and tap row.
template <class T, int K, bool kChannelsInside, bool kWide = (K > 9)>
class GradientSums {
 public:
  using Fragments = GradientFragments<T, K, kChannelsInside>;
  using Order = typename Fragments::Order;
  static constexpr int kStep = Fragments::kStep;

  __device__ __forceinline__ GradientSums(const Order& order, const Order& own, int row, int column, int pixels)
      : fragments_(order, own, row, column, pixels) {}

  // Adds kStep channels of a chunk, from `channel` on.
  __device__ __forceinline__ void add(const T* chunk, int channel) {
    uint32_t b[kRows][2];
    fragments_.load_pixels(b, chunk, channel);
#pragma unroll
    for (int line = 0; line < kRows + K - 1; ++line) {
      uint32_t a[4];
      fragments_.load_window(a, chunk, channel, line);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int t = i + K - 1 - line;
        if (t >= 0 && t < K) Fragments::multiply(sum_[i][t], a, b[i]);
      }
    }
  }

  // Writes [tap][row of pixels][pixel], laid out as `taps` says.
  __device__ __forceinline__ void store(float* dw, const Taps& taps) const {
    // Where a lane's window columns are neighbours, all words of one entry are even: the upper lanes take another one.
    const bool exchanged = sizeof(T) == 4 && !kChannelsInside && threadIdx.x % 32 >= 16;
#pragma unroll
    for (int entry = 0; entry < 4; ++entry) {
      // Window column k of pixel q holds tap column s.
      const int k = Fragments::column(exchanged ? entry ^ 2 : entry);
      const int q = 2 * (threadIdx.x % 4) + entry % 2, s = q + kHalo + K / 2 - k;
      if (s < 0 || s >= K) continue;
      float* const own = dw + s * taps.pitch + q;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int t = 0; t < K; ++t)
          own[t * K * taps.pitch + i * taps.columns] = exchanged ? sum_[i][t][entry ^ 2] : sum_[i][t][entry];
    }
  }

 private:
  Fragments fragments_;
  float sum_[kRows][K][4] = {};
};

// K > 9: D[2 rows of 8 pixels x 8 columns] of each window row and 8 of its 24 columns. A window row is tap row t of
// one row of pixels and t + 1 of the next; D[16 columns x 8 pixels] would take two thirds more products and registers.
template <class T, int K, bool kChannelsInside>
class GradientSums<T, K, kChannelsInside, true> {
  static constexpr int kLines = K + 1;

 public:
  using Order = ChunkOrder<T, kChannelsInside, 32>;
  static constexpr int kStep = 16;

  // The matrices in the order of their registers:
  //   register              0      1      2      3
  //   input     channels    0-7    8-15   0-7    8-15
  //             columns     0-7    0-7    8-15   8-15
  //   grad_out  row         i      i + 1  i      i + 1
  //             channels    0-7    0-7    8-15   8-15
  __device__ __forceinline__ GradientSums(const Order& order, const Order& own, int row, int column, int pixels)
      : order_(order), own_(own) {
    const int matrix = threadIdx.x % 32 / 8;
    window_ = matrix_row(order, row, column, 0, matrix / 2, matrix % 2);
    pixels_ = pixels + matrix_row(own, row + matrix % 2, column, 0, 0, matrix / 2);
  }

  __device__ __forceinline__ void add(const T* chunk, int channel) {
    uint32_t a[4];
    load_matrices<!kChannelsInside>(a, chunk + own_.step(pixels_, channel));
#pragma unroll
    for (int line = 0; line < kLines; ++line) {
      const T* const from = chunk + order_.step(window_, channel) + line * order_.row_pitch();
      uint32_t left[4], right[2];
      load_matrices<!kChannelsInside>(left, from);
      load_matrices<!kChannelsInside>(right, from + sixteen_columns<Order>());
      mma_m16n8k16<T>(sum_[line][0], a, {left[0], left[1]});
      mma_m16n8k16<T>(sum_[line][1], a, {left[2], left[3]});
      mma_m16n8k16<T>(sum_[line][2], a, right);
    }
  }

  __device__ __forceinline__ void store(float* dw, const Taps& taps) const {
    const int q = threadIdx.x % 32 / 4;
#pragma unroll
    for (int block = 0; block < 3; ++block)
#pragma unroll
      for (int entry = 0; entry < 4; ++entry) {
        const int i = entry / 2, k = 8 * block + 2 * (threadIdx.x % 4) + entry % 2, s = q + band_halo(K) + K / 2 - k;
        if (s < 0 || s >= K) continue;
        float* const own = dw + s * taps.pitch + i * taps.columns + q;
#pragma unroll
        for (int t = 0; t < K; ++t) own[t * K * taps.pitch] = sum_[i + K - 1 - t][block][entry];
      }
  }

 private:
  const Order &order_, &own_;
  int window_, pixels_;
  float sum_[kLines][3][4] = {};
};

}  // namespace svconv::cuda

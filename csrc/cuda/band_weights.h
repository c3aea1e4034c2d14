// Makes a warp's B fragments, the band matrices of its rows, from logits in shared memory; the softmax is taken here.
#pragma once

#include "band.h"

namespace svconv::cuda {

constexpr float kLog2E = 1.4426950408889634f;

// B fragment (k, q) of tap row t and one row of pixels: pixel q's weight for window column k. A lane holds pixel
// q = lane / 4 and four columns k, six with K > 9: two in a register of 16-bit numbers, one in a register of tf32.
template <int K>
constexpr int kEntries = K <= 9 ? 4 : 6;
template <class T, int K>
constexpr int kBandRegisters = sizeof(T) == 4 ? kEntries<K> : kEntries<K> / 2;
template <class T, int K>
using Band = uint32_t[kRows][K][kBandRegisters<T, K>];

// The window column behind an entry of a lane. mma.m16n8k16 has columns 2 * (lane % 4) + {0, 1, 8, 9} in a lane, the
// m16n8k8 after it columns 2 * (lane % 4) + {16, 17}. The columns of the tf32 products may be any, as long as A and B
// agree: they are neighbours, which A reads at once.
template <class T>
__device__ __forceinline__ int window_column(int entry) {
  if constexpr (sizeof(T) == 4) return 4 * (threadIdx.x % 4) + entry;
  else return 2 * (threadIdx.x % 4) + entry % 2 + entry / 2 * 8;
}

// Returns `uniform` in a way that the compiler can't see through. It would otherwise keep the addresses of all taps
// from row to row, in registers that it lacks.
__device__ __forceinline__ int anew(int uniform, int row) { return __shfl_sync(0xffffffffu, uniform, row); }

template <class T, int K>
__device__ __forceinline__ void round_entries(uint32_t (&to)[kBandRegisters<T, K>], const float (&weights)[kEntries<K>],
                                              float scale) {
#pragma unroll
  for (int i = 0; i < kBandRegisters<T, K>; ++i)
    if constexpr (sizeof(T) == 4) to[i] = tf32_operand(weights[i] * scale);
    else to[i] = pack2<T>(weights[2 * i] * scale, weights[2 * i + 1] * scale);
}

// Appends a row; the rows before it move up by one. Registers have no index at run time, and four copies of the code
// that makes a row would cost minutes of compiling.
template <class T, int K>
__device__ __forceinline__ void append_row(Band<T, K>& band, const float (&weights)[K][kEntries<K>],
                                           float scale) {
#pragma unroll
  for (int t = 0; t < K; ++t) {
#pragma unroll
    for (int n = 0; n < kBandRegisters<T, K>; ++n)
#pragma unroll
      for (int i = 0; i < kRows - 1; ++i) band[i][t][n] = band[i + 1][t][n];
    round_entries<T, K>(band[kRows - 1][t], weights[t], scale);
  }
}

// forward: window column k of pixel q holds tap column s = q + halo + r - k. The four lanes of a pixel share its taps,
// so the softmax is theirs alone. `logits` points at the warp's first pixel, (y, x) of the image.
template <class T, int K>
__device__ __forceinline__ void build_band(Band<T, K>& band, const T* logits, const Taps& taps, const ImageProblem& p,
                                           const Image& image, int y, int x, Plane<float> lse, bool write_lse) {
  constexpr int r = K / 2, halo = band_halo(K);
  const int q = threadIdx.x % 32 / 4;
  // K = 13 has no registers for more of the log-sum-exp than a pointer.
  float* own_lse = nullptr;
  if (K > 11 && write_lse && threadIdx.x % 4 == 0 && x + q < image.width) own_lse = lse.at(0, y, x + q);
#pragma unroll 1
  for (int i = 0; i < kRows; ++i) {
    const int pitch = anew(taps.pitch, i), columns = anew(taps.columns, i);
    float weights[K][kEntries<K>];
    float top = -float(INFINITY), sum = 0;
#pragma unroll
    for (int entry = 0; entry < kEntries<K>; ++entry) {
      const int s = q + halo + r - window_column<T>(entry);
      const bool valid = s >= 0 && s < K;
      const bool column_excluded = p.renormalize && (x + q - (s - r) < 0 || x + q - (s - r) >= image.width);
#pragma unroll
      for (int t = 0; t < K; ++t) {
        const int row = y + i - (t - r);
        const bool excluded = column_excluded || (p.renormalize && (row < 0 || row >= image.height));
        weights[t][entry] = p.normalize ? -float(INFINITY) : 0.0f;
        if (valid && !(p.normalize && excluded))
          weights[t][entry] = widen(logits[(t * K + s) * pitch + i * columns + halo + q]);
        top = fmaxf(top, weights[t][entry]);
      }
    }
    float scale = 1;
    if (p.normalize) {
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
#pragma unroll
      for (int t = 0; t < K; ++t)
#pragma unroll
        for (int entry = 0; entry < kEntries<K>; ++entry) {
          weights[t][entry] = exp2f((weights[t][entry] - top) * kLog2E);
          sum += weights[t][entry];
        }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      scale = 1 / sum;
      if constexpr (K > 11) {
        if (own_lse && y + i < image.height) own_lse[i * p.width * p.dilation] = top + logf(sum);
      } else if (write_lse && threadIdx.x % 4 == 0 && inside(image, y + i, x + q)) {
        *lse.at(0, y + i, x + q) = top + logf(sum);
      }
    }
    append_row<T, K>(band, weights, scale);
  }
}

// grad_input: window column k is a pixel whose tap column s = k - halo - q + r reaches pixel q, and the product's row
// t is tap row K - 1 - t. `logits` points at the start of the warp's window, `lse` at the same K / 2 rows up.
template <class T, int K>
__device__ __forceinline__ void build_reversed_band(Band<T, K>& band, const T* logits, const Taps& taps,
                                                    const ImageProblem& p, const float* lse) {
  constexpr int r = K / 2, halo = band_halo(K);
  const int q = threadIdx.x % 32 / 4;
#pragma unroll 1
  for (int i = 0; i < kRows; ++i) {
    const int pitch = anew(taps.pitch, i), columns = anew(taps.columns, i);
    float weights[K][kEntries<K>];
#pragma unroll
    for (int entry = 0; entry < kEntries<K>; ++entry) {
      const int k = window_column<T>(entry), s = k - halo - q + r;
      const bool valid = s >= 0 && s < K;
#pragma unroll
      for (int t = 0; t < K; ++t) {
        float weight = 0;
        if (valid) {
          weight = widen(logits[((K - 1 - t) * K + s) * pitch + i * columns + k]);
          if (p.normalize) weight = exp2f((weight - lse[(i + K - 1 - t) * columns + k]) * kLog2E);
        }
        weights[t][entry] = weight;
      }
    }
    append_row<T, K>(band, weights, 1.0f);
  }
}

}  // namespace svconv::cuda

// The two inner loops. Both run over one row of taps at a time, K known at compile time.
#pragma once

#include "vec.h"

#ifndef SVCONV_TILE_PIXELS
#define SVCONV_TILE_PIXELS 6
#endif

namespace svconv::cpu::SVCONV_ISA {
namespace {

constexpr int kTile = SVCONV_TILE_PIXELS;
// Vectors of channels in a tile: kTile * 2 accumulators, 2 inputs and a broadcast weight fill the
// 16 registers of AVX2 (6 pixels) and most of the 32 of AVX-512 (12 pixels).
constexpr int kDepth = 2;
template <class A>
constexpr int kChunk = kDepth * kLanes<A>;

// Spatially variant product of kTile pixels x kChunk channels.
//   out  [kTile, kChunk]
//   x    rows of packed input, the one that tap row t reads at x + rows[-t]: [kTile + K - 1, kChunk], input columns
//        j - r .. j + kTile - 1 + r
//   w    [K * K, kTile]
// Tap (t, s) of pixel p reads column p + K - 1 - s: each column is loaded once and used by
// up to K pixels, each weight is broadcast once and used by kDepth vectors.
template <class A, int K>
void tile(A* out, const A* x, const int64_t* rows, const A* w, int, int first, int last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[kTile][kDepth] = {};
  for (int t = first; t < last; ++t) {
    const A* xt = x + rows[-t];
    const A* wt = w + t * K * kTile;
#pragma GCC unroll 32
    for (int q = 0; q < kTile + K - 1; ++q) {
      Vec<A> column[kDepth];
#pragma GCC unroll 4
      for (int v = 0; v < kDepth; ++v) column[v] = vload(xt + q * kChunk<A> + v * L);
#pragma GCC unroll 16
      for (int p = 0; p < kTile; ++p) {
        const int s = p + K - 1 - q;
        if (s >= 0 && s < K) {
          const A weight = wt[s * kTile + p];
#pragma GCC unroll 4
          for (int v = 0; v < kDepth; ++v) acc[p][v] += column[v] * weight;
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < kTile; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kDepth; ++v) vstore(out + p * kChunk<A> + v * L, acc[p][v]);
}

// The product of tile() for a kernel size that is known at run time alone.
template <class A>
void tile_any(A* out, const A* x, const int64_t* rows, const A* w, int K, int first, int last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[kTile][kDepth] = {};
  for (int t = first; t < last; ++t) {
    for (int s = 0; s < K; ++s) {
      const A* xs = x + rows[-t] + (K - 1 - s) * kChunk<A>;
      const A* ws = w + (t * K + s) * kTile;
#pragma GCC unroll 16
      for (int p = 0; p < kTile; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < kDepth; ++v) acc[p][v] += vload(xs + p * kChunk<A> + v * L) * ws[p];
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < kTile; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kDepth; ++v) vstore(out + p * kChunk<A> + v * L, acc[p][v]);
}

template <class A>
using Tile = void (*)(A* out, const A* x, const int64_t* rows, const A* w, int K, int first, int last);

template <class A>
Tile<A> tile_for(int64_t K) {
  switch (K) {
    case 3: return tile<A, 3>;
    case 5: return tile<A, 5>;
    case 7: return tile<A, 7>;
    case 9: return tile<A, 9>;
    case 11: return tile<A, 11>;
    case 13: return tile<A, 13>;
    case 15: return tile<A, 15>;
    default: return tile_any<A>;
  }
}

// Width of a window of input pixels: one vector of pixels and its halo, in whole vectors, so that for K = 9
// under AVX2 it is one cache line and no shifted load crosses two.
template <class A>
int64_t window_width(int64_t K) {
  return (kLanes<A> + K - 1 + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// Taps that one call of reduce takes: with two rows of pixels, 10 accumulators of the 16 registers of AVX2, 18 of 32.
#if defined(__x86_64__) && !defined(__AVX512F__)
constexpr int kTaps = 5;
#else
constexpr int kTaps = 9;
#endif

// Channel reduction of one vector of pixels, in each of ROWS rows, with TAPS consecutive taps of a tap row:
//   dw[row][s * pitch + l] += sum over c of g[row][c, l] * x[c, l - s]
//   g  [channels, lanes],  x  [channels, width]
// The rows share the loads of x: row 1 uses it with the tap row after row 0's.
template <class A, int ROWS, int TAPS>
void reduce(A* const (&dw)[2], int64_t pitch, const A* const (&g)[2], const A* x, int64_t width, int64_t channels) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[ROWS][TAPS];
#pragma GCC unroll 2
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) acc[row][s] = vload(dw[row] + s * pitch);
  const A *g0 = g[0], *g1 = g[ROWS - 1];
  for (int64_t c = 0; c < channels; ++c, x += width) {
    const Vec<A> gc[2] = {vload(g0 + c * L), vload(g1 + c * L)};
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) {
      Vec<A> xs = vload(x - s);
      if constexpr (ROWS > 1) keep_in_register(xs);
#pragma GCC unroll 2
      for (int row = 0; row < ROWS; ++row) acc[row][s] += gc[row] * xs;
    }
  }
#pragma GCC unroll 2
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) vstore(dw[row] + s * pitch, acc[row][s]);
}

// The same where so many taps are taken at a time, so that no other is compiled.
template <class A, int ROWS, int TAPS>
SVCONV_INLINE void reduce_if_taken(A* const (&dw)[2], int64_t pitch, const A* const (&g)[2], const A* x, int64_t width,
                                   int64_t channels) {
  if constexpr (TAPS <= kTaps) reduce<A, ROWS, TAPS>(dw, pitch, g, x, width, channels);
}

// Reduces a whole tap row; x points at the column that tap 0 of the first lane reads.
template <class A, int ROWS>
void reduce_row(A* dw0, A* dw1, int64_t pitch, const A* g0, const A* g1, const A* x, int64_t width, int64_t channels,
                int K) {
  for (int s = 0; s < K;) {
    // Nine taps go as 5 + 4, not 5 + 3 + 1.
    const int left = K - s, taps = left > kTaps ? kTaps : left;
    A* const dw[2] = {dw0 + s * pitch, dw1 + s * pitch};
    const A* const g[2] = {g0, g1};
    const A* xs = x - s;
    switch (taps) {
      case 1: reduce<A, ROWS, 1>(dw, pitch, g, xs, width, channels); break;
      case 2: reduce<A, ROWS, 2>(dw, pitch, g, xs, width, channels); break;
      case 3: reduce<A, ROWS, 3>(dw, pitch, g, xs, width, channels); break;
      case 4: reduce<A, ROWS, 4>(dw, pitch, g, xs, width, channels); break;
      case 5: reduce<A, ROWS, 5>(dw, pitch, g, xs, width, channels); break;
      case 6: reduce_if_taken<A, ROWS, 6>(dw, pitch, g, xs, width, channels); break;
      case 7: reduce_if_taken<A, ROWS, 7>(dw, pitch, g, xs, width, channels); break;
      case 8: reduce_if_taken<A, ROWS, 8>(dw, pitch, g, xs, width, channels); break;
      case 9: reduce_if_taken<A, ROWS, 9>(dw, pitch, g, xs, width, channels); break;
    }
    s += taps;
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

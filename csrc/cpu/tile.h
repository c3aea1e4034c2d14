// The two inner loops. Both run over one row of taps at a time, K known at compile time.
#pragma once

#include "vec.h"

#ifndef SVCONV_TILE_PIXELS
#define SVCONV_TILE_PIXELS 6
#endif

namespace {

constexpr int kTile = SVCONV_TILE_PIXELS;
// Vectors of channels in a tile: kTile * 2 accumulators, 2 inputs and a broadcast weight fill the
// 16 registers of AVX2 (6 pixels) and most of the 32 of AVX-512 (12 pixels).
constexpr int kDepth = 2;
template <class A>
constexpr int kChunk = kDepth * kLanes<A>;

// Spatially variant product of kTile pixels x kChunk channels.
//   out  [kTile, kChunk]
//   x    [kTile + K - 1, kChunk]: input columns j - r .. j + kTile - 1 + r of the row that tap row 0 reads;
//        tap row t reads `row` elements before it for each t
//   w    [K * K, kTile]
// Tap (t, s) of pixel p reads column p + K - 1 - s: each column is loaded once and used by
// up to K pixels, each weight is broadcast once and used by kDepth vectors.
template <class A, int K>
void tile(A* out, const A* x, int64_t row, const A* w, int, int first, int last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[kTile][kDepth] = {};
  for (int t = first; t < last; ++t) {
    const A* xt = x - t * row;
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

// The same for a kernel size known only at run time.
template <class A>
void tile_any(A* out, const A* x, int64_t row, const A* w, int K, int first, int last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[kTile][kDepth] = {};
  for (int t = first; t < last; ++t) {
    for (int s = 0; s < K; ++s) {
      const A* xs = x - t * row + (K - 1 - s) * kChunk<A>;
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
using Tile = void (*)(A* out, const A* x, int64_t row, const A* w, int K, int first, int last);

template <class A>
Tile<A> tile_for(int64_t K) {
  switch (K) {
    case 3: return tile<A, 3>;
    case 5: return tile<A, 5>;
    case 7: return tile<A, 7>;
    case 9: return tile<A, 9>;
    default: return tile_any<A>;
  }
}

// Width of a window of input pixels: one vector of pixels and its halo, in whole vectors, so that for K = 9
// under AVX2 it is one cache line and no shifted load crosses two.
template <class A>
int64_t window_width(int64_t K) {
  return (kLanes<A> + K - 1 + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// Channel reduction of one vector of pixels with TAPS consecutive taps of a tap row:
//   dw[s * pitch + l] += sum over c of g[c, l] * x[c, last - s + l]
//   g  [channels, lanes],  x  [channels, width]
template <class A, int TAPS>
void reduce(A* dw, int64_t pitch, const A* g, const A* x, int64_t width, int64_t channels) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[TAPS];
#pragma GCC unroll 16
  for (int s = 0; s < TAPS; ++s) acc[s] = vload(dw + s * pitch);
  for (int64_t c = 0; c < channels; ++c) {
    const Vec<A> gc = vload(g + c * L);
    const A* xc = x + c * width;
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) acc[s] += gc * vload(xc - s);
  }
#pragma GCC unroll 16
  for (int s = 0; s < TAPS; ++s) vstore(dw + s * pitch, acc[s]);
}

// A whole tap row, in pieces of at most nine taps.
template <class A>
void reduce_row(A* dw, int64_t pitch, const A* g, const A* x, int64_t width, int64_t channels, int K) {
  for (int s = 0; s < K;) {
    const A* xs = x + K - 1 - s;
    const int left = K - s;
    if (left >= 9) {
      reduce<A, 9>(dw + s * pitch, pitch, g, xs, width, channels);
      s += 9;
    } else if (left >= 7) {
      reduce<A, 7>(dw + s * pitch, pitch, g, xs, width, channels);
      s += 7;
    } else if (left >= 5) {
      reduce<A, 5>(dw + s * pitch, pitch, g, xs, width, channels);
      s += 5;
    } else if (left >= 3) {
      reduce<A, 3>(dw + s * pitch, pitch, g, xs, width, channels);
      s += 3;
    } else {
      reduce<A, 1>(dw + s * pitch, pitch, g, xs, width, channels);
      s += 1;
    }
  }
}

}  // namespace

// The two inner loops. Both run over one row of taps at a time, K known at compile time.
#pragma once

#include "vec.h"

#ifndef SVCONV_TILE_PIXELS
#define SVCONV_TILE_PIXELS 6
#endif

namespace svconv::cpu::SVCONV_ISA {
namespace {

constexpr int kTile = SVCONV_TILE_PIXELS;
// Pixels of a narrow tile, which ends a row whose last tile has no more than these.
constexpr int kNarrowTile = kTile / 3;
// Vectors of channels in a tile: kTile * 2 accumulators, 2 inputs and a broadcast weight fill the
// 16 registers of AVX2 (6 pixels) and most of the 32 of AVX-512 (12 pixels).
constexpr int kDepth = 2;
template <class A>
constexpr int kChunk = kDepth * kLanes<A>;

// Spatially variant product of the first PIXELS of a tile x kChunk channels.
//   out  [PIXELS, kChunk]
//   x    rows of packed input, the one that tap row t reads at x + rows[-t]: [PIXELS + K - 1, kChunk], input columns
//        j - r .. j + PIXELS - 1 + r
//   w    [K * K, kTile]
// Tap (t, s) of pixel p reads column p + K - 1 - s: each column is loaded once and used by
// up to K pixels, each weight is broadcast once and used by kDepth vectors.
template <class A, int K, int PIXELS = kTile>
void tile(A* out, const A* x, const int64_t* rows, const A* w, int, int first, int last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[PIXELS][kDepth] = {};
  for (int t = first; t < last; ++t) {
    const A* xt = x + rows[-t];
    const A* wt = w + t * K * kTile;
#pragma GCC unroll 32
    for (int q = 0; q < PIXELS + K - 1; ++q) {
      Vec<A> column[kDepth];
#pragma GCC unroll 4
      for (int v = 0; v < kDepth; ++v) column[v] = vload(xt + q * kChunk<A> + v * L);
#pragma GCC unroll 16
      for (int p = 0; p < PIXELS; ++p) {
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
  for (int p = 0; p < PIXELS; ++p)
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

template <class A, int PIXELS = kTile>
Tile<A> tile_for(int64_t K) {
  switch (K) {
    case 3: return tile<A, 3, PIXELS>;
    case 5: return tile<A, 5, PIXELS>;
    case 7: return tile<A, 7, PIXELS>;
    case 9: return tile<A, 9, PIXELS>;
    case 11: return tile<A, 11, PIXELS>;
    case 13: return tile<A, 13, PIXELS>;
    case 15: return tile<A, 15, PIXELS>;
    default: return tile_any<A>;
  }
}

// Width of a window of input pixels: one vector of pixels and its halo, in whole vectors.
template <class A>
int64_t window_width(int64_t K) {
  return (kLanes<A> + K - 1 + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// Taps that one call of reduce takes, and rows of pixels: 10 accumulators of the 16 registers of AVX2, 27 of the 32 of
// AVX-512, where loads across two cache lines, which most are, are what runs short.
#if defined(__AVX512F__)
constexpr int kTaps = 9, kRows = 3;
#elif defined(__x86_64__)
constexpr int kTaps = 5, kRows = 2;
#else
constexpr int kTaps = 9, kRows = 2;
#endif

// Width of a row of input for `pitch` pixels and their halo: an odd number of vectors, so that the channels' rows lie
// in different sets of L1.
template <class A>
int64_t row_width(int64_t pitch, int64_t K) {
  constexpr int L = kLanes<A>;
  return ((pitch + K - 1 + L - 1) / L | 1) * L;
}

// Channel reduction of one vector of pixels, in each of ROWS rows, with TAPS consecutive taps of a tap row:
//   dw[row * dw_step + s * pitch + l] += sum over c of g[row * g_step][c, l] * x[c, l - s]
//   g  [channels, lanes],  x  [channels, width]
// The rows share the loads of x: each uses it with the tap row after that of the row above.
template <class A, int ROWS, int TAPS>
void reduce(A* dw, int64_t dw_step, int64_t pitch, const A* g, int64_t g_step, const A* x, int64_t width,
            int64_t channels) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[ROWS][TAPS];
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) acc[row][s] = vload(dw + row * dw_step + s * pitch);
  for (int64_t c = 0; c < channels; ++c, x += width, g += L) {
    Vec<A> gc[ROWS];
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; ++row) gc[row] = vload(g + row * g_step);
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) {
      Vec<A> xs = vload(x - s);
      if constexpr (ROWS > 1) keep_in_register(xs);
#pragma GCC unroll 4
      for (int row = 0; row < ROWS; ++row) acc[row][s] += gc[row] * xs;
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 16
    for (int s = 0; s < TAPS; ++s) vstore(dw + row * dw_step + s * pitch, acc[row][s]);
}

// Reduces a whole tap row; x points at the column that tap 0 of the first lane reads.
template <int N>
using Count = std::integral_constant<int, N>;

template <class A, int ROWS>
void reduce_rows(A* dw, int64_t dw_step, int64_t pitch, const A* g, int64_t g_step, const A* x, int64_t width,
                 int64_t channels, int K) {
  const auto taps = [&](auto count, int s) {
    // No more are ever taken at a time, so that no other is compiled.
    if constexpr (count <= kTaps)
      reduce<A, ROWS, count>(dw + s * pitch, dw_step, pitch, g, g_step, x - s, width, channels);
  };
  for (int s = 0, count; s < K; s += count) {
    // Nine taps go as 5 + 4, not 5 + 3 + 1.
    count = K - s > kTaps ? kTaps : K - s;
    switch (count) {
      case 1: taps(Count<1>(), s); break;
      case 2: taps(Count<2>(), s); break;
      case 3: taps(Count<3>(), s); break;
      case 4: taps(Count<4>(), s); break;
      case 5: taps(Count<5>(), s); break;
      case 6: taps(Count<6>(), s); break;
      case 7: taps(Count<7>(), s); break;
      case 8: taps(Count<8>(), s); break;
      case 9: taps(Count<9>(), s); break;
    }
  }
}

template <class A>
void reduce_row(int64_t rows, A* dw, int64_t dw_step, int64_t pitch, const A* g, int64_t g_step, const A* x,
                int64_t width, int64_t channels, int K) {
  static_assert(kRows <= 3);
  switch (rows) {
    case 1: return reduce_rows<A, 1>(dw, dw_step, pitch, g, g_step, x, width, channels, K);
    case 2: return reduce_rows<A, 2>(dw, dw_step, pitch, g, g_step, x, width, channels, K);
    case 3:
      if constexpr (kRows == 3) return reduce_rows<A, 3>(dw, dw_step, pitch, g, g_step, x, width, channels, K);
  }
}

// Vectors that cover a tile's pixels, and the elements by which they reach beyond it.
template <class A>
constexpr int kTileVectors = (kTile + kLanes<A> - 1) / kLanes<A>;
template <class A>
constexpr int kOverrun = kTileVectors<A> * kLanes<A> - kTile;

// Cuts [taps, pitch], times the pixels' scale if there is one, into tiles of [taps, kTile], `apart` elements from one
// to the next. Stores run over by kOverrun elements into the next tap, which is written after.
template <class A>
void split_tiles(A* dst, int64_t apart, const A* taps, int64_t pitch, const A* scale, int64_t tiles, int64_t area) {
  constexpr int L = kLanes<A>;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    A* to = dst + tile * apart;
    const A* from = taps + tile * kTile;
    Vec<A> factor[kTileVectors<A>];
    for (int i = 0; i < kTileVectors<A>; ++i)
      factor[i] = scale ? vload(scale + tile * kTile + i * L) : Vec<A>{} + A(1);
    for (int64_t k = 0; k < area; ++k)
      for (int i = 0; i < kTileVectors<A>; ++i)
        vstore(to + k * kTile + i * L, vload(from + k * pitch + i * L) * factor[i]);
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

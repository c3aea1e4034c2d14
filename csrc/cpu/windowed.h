// forward on windows that aren't plain (window.h), and what its gradients share with it: other borders, taps in
// reverse, a scale. A block of rows at a time is packed with its borders filled in, after which one loop serves all
// windows; tiles that lie away from the border run the one of plain windows.
#pragma once

#include "arena.h"
#include "item.h"
#include "tile.h"
#include "weights.h"
#include "window.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// The product of tile() with a column of its own for each pixel: tap s of pixel p reads column E - 1 - s of those from
// offsets[p] on.
template <class A>
void tile_at(A* out, const A* x, const int64_t* rows, const int64_t* offsets, const A* w, int64_t E, int64_t first,
             int64_t last) {
  constexpr int L = kLanes<A>;
  Vec<A> acc[kTile][kDepth] = {};
  for (int64_t t = first; t < last; ++t)
    for (int64_t s = 0; s < E; ++s) {
      const A* xs = x + rows[-t] + (E - 1 - s) * kChunk<A>;
      const A* ws = w + (t * E + s) * kTile;
#pragma GCC unroll 16
      for (int p = 0; p < kTile; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < kDepth; ++v) acc[p][v] += vload(xs + offsets[p] + v * L) * ws[p];
    }
#pragma GCC unroll 16
  for (int p = 0; p < kTile; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < kDepth; ++v) vstore(out + p * kChunk<A> + v * L, acc[p][v]);
}

// Packs the pixels at positions [lo, lo + count) of a row: [count][lanes] as pack() has it with the channels as lanes,
// or [channels][wide] with the columns as lanes. What lies outside the frame is what the border says.
template <class T, class A = Accumulate<T>>
void pack_positions(A* dst, int64_t pitch, Plane<const T> source, int64_t c, int64_t channels, int64_t row,
                    const Axis& axis, int64_t lo, int64_t count, bool columns_are_lanes) {
  const Span inside = clip(lo, count, axis.size);
  if (row < 0) return fill(dst, columns_are_lanes ? channels * pitch : count * pitch, A(0));
  const T* src = source.at(c, row, lo);
  if (columns_are_lanes)
    pack(dst, pitch, src, source.w, source.c, Span{inside.first, inside.last, pitch}, Span{0, channels, channels},
         A(0));
  else
    pack(dst, pitch, src, source.c, source.w, Span{0, channels, pitch}, inside, A(0));
  const int64_t outside = inside.first + count - inside.last;
  for (int64_t k = 0; k < outside; ++k) {
    const int64_t i = k < inside.first ? k : inside.last + k - inside.first, from = axis.at(lo + i);
    if (from < 0) continue;
    if (columns_are_lanes)
      for (int64_t l = 0; l < channels; ++l) dst[l * pitch + i] = widen(*source.at(c + l, row, from));
    else
      for (int64_t l = 0; l < channels; ++l) dst[i * pitch + l] = widen(*source.at(c + l, row, from));
  }
}

// The windows of an item.
struct Windows {
  const Problem& p;
  const Item& item;
  int64_t K, r, area, depth;
  Axis rows, columns;   // of the item's sub-image

  // The item's rows and columns are those of a frame `fine` times as fine as the input, and `scale` places share one.
  Windows(const Problem& p, const Item& item, int64_t fine, int64_t scale)
      : p(p),
        item(item),
        K(p.kernel),
        r(K / 2),
        area(K * K),
        depth(p.channels / p.groups),
        rows{item.height / fine, scale, r, p.border},
        columns{item.width / fine, scale, r, p.border} {}

  // Where a tap of the convolution lies among the logits.
  int64_t stored(int64_t tap) const { return p.correlation ? area - 1 - tap : tap; }

  // Whether a tap of the convolution reads a pixel of the frame; `column` counts from the item's first.
  bool inside(int64_t tap, int64_t row, int64_t column) const {
    return rows.read(row, tap / K) >= 0 && columns.read(item.column + column, tap % K) >= 0;
  }

  // The tap rows of a place that lie in the frame, where others read zeros.
  void tap_rows(int64_t place, int64_t& first, int64_t& last) const {
    const int64_t top = rows.centre(place) + r;
    first = p.border == Border::zeros ? std::max<int64_t>(0, top - rows.size + 1) : 0;
    last = p.border == Border::zeros ? std::min(K, top + 1) : K;
  }
};

// What the products share.
template <class T>
struct Windowed : Windows {
  using A = Accumulate<T>;
  Plane<T> logits;
  Plane<A> lse;

  // `fine` is 1 for items of the input's frame, else the scale.
  Windowed(const Problem& p, const Item& item, int64_t fine)
      : Windows(p, item, fine, p.scale),
        logits(plane<T>(p.logits, p, item, item.group * area)),
        lse(lse_plane<A>(p, item)) {}

  // Reads a row of logits, [area, pitch] in the order in which they are stored, as the softmax sees them.
  void read_logits_of(A* taps, int64_t pitch, int64_t row) const {
    pack(taps, pitch, static_cast<const T*>(logits.at(0, row, item.column)), logits.w, logits.c,
         Span{0, item.columns, pitch}, Span{0, area, area}, A(0));
    if (!p.normalize || !p.renormalize) return;
    const A excluded = -std::numeric_limits<A>::infinity();
    for (int64_t k = 0; k < area; ++k) {
      A* tap = taps + stored(k) * pitch;
      for (int64_t j = 0; j < item.columns; ++j)
        if (!inside(k, row, j)) tap[j] = excluded;
    }
  }
};

template <class A>
constexpr bool in_a_row(const int64_t* offsets, int64_t pixels) {
  for (int64_t p = 1; p < pixels; ++p)
    if (offsets[p] != offsets[0] + p * kChunk<A>) return false;
  return true;
}

template <class T>
void window_forward(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, p.scale);
  const int64_t K = own.K, r = own.r, area = own.area, depth = own.depth, lanes = kChunk<A>;
  const Axis &rows = own.rows, &columns = own.columns;
  const int64_t tiles = divide_up(item.columns, kTile), pixels = tiles * kTile;
  const int64_t pitch = divide_up(pixels, kLanes<A>) * kLanes<A>;
  const int64_t lo = columns.centre(item.column) - r;
  const int64_t count = columns.centre(item.column + item.columns - 1) + r + 1 - lo, row_size = (count + kTile) * lanes;
  // Rows whose weights stay in L2 while the chunks of channels go by.
  const int64_t step = std::min(item.rows, std::max<int64_t>(1, (int64_t(1) << 18) / (area * pixels * sizeof(A))));
  const int64_t tile_weights = area * kTile + kOverrun<A>;

  Arena arena;
  A* const taps = arena.array<A>(area * pitch + 2 * kLanes<A>);       // [K * K, pitch]
  A* const scale = arena.array<A>(pitch + 2 * kLanes<A>);             // [pitch], by which a row's taps become weights
  A* const lse_row = arena.array<A>(pitch);                           // [pitch]
  A* const weights = arena.array<A>(step * tiles * tile_weights);     // [step, tiles, tile_weights]
  A* const x = arena.array<A>((step + K - 1) * row_size);             // [step + K - 1, count + kTile, lanes]
  A* const out = arena.array<A>(step * pixels * lanes);               // [step, pixels, lanes]
  int64_t* const slots = arena.array<int64_t>(step + K - 1);          // where each row of x lies
  int64_t* const offsets = arena.array<int64_t>(pixels);              // where each pixel's window begins in a row
  for (int64_t i = 0; i < step + K - 1; ++i) slots[i] = i * row_size;
  for (int64_t j = 0; j < pixels; ++j)
    offsets[j] = (columns.centre(item.column + std::min(j, item.columns - 1)) - r - lo) * lanes;
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const Tile<A> compute = tile_for<A>(K);

  for (int64_t top = item.row; top < item.row + item.rows; top += step) {
    const int64_t end = std::min(top + step, item.row + item.rows), base = rows.centre(top) - r;
    for (int64_t row = top; row < end; ++row) {
      own.read_logits_of(taps, pitch, row);
      if (p.normalize) {
        softmax(taps, pitch, area, scale, p.lse ? lse_row : nullptr);
        if (p.lse)
          for (int64_t j = 0; j < item.columns; ++j) *own.lse.at(0, row, item.column + j) = lse_row[j];
      }
      // Taps of a correlation change places here, where they are copied anyway.
      split_tiles(weights + (row - top) * tiles * tile_weights, tile_weights,
                  p.correlation ? taps + (area - 1) * pitch : taps,
                  p.correlation ? -pitch : pitch, p.normalize ? scale : nullptr, tiles, area);
    }
    for (int64_t c = 0; c == 0 || c < depth; c += lanes) {
      const int64_t channels = std::min(lanes, depth - c);
      for (int64_t y = base; y <= rows.centre(end - 1) + r; ++y) {
        A* packed = x + (y - base) * row_size;
        pack_positions(packed, lanes, source, c, channels, rows.at(y), columns, lo, count, false);
        fill(packed + count * lanes, kTile * lanes, A(0));
      }
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t* starts = offsets + tile * kTile;
        const bool plain = in_a_row<A>(starts, std::min<int64_t>(kTile, item.columns - tile * kTile));
        for (int64_t row = top; row < end; ++row) {
          int64_t first, last;
          own.tap_rows(row, first, last);
          A* sums = out + ((row - top) * pixels + tile * kTile) * lanes;
          const int64_t* slot = slots + rows.centre(row) + r - base;
          const A* of_tile = weights + ((row - top) * tiles + tile) * tile_weights;
          if (plain) compute(sums, x + starts[0], slot, of_tile, K, first, last);
          else tile_at(sums, x, slot, starts, of_tile, K, first, last);
        }
      }
      for (int64_t row = top; row < end; ++row)
        unpack(result.at(c, row, item.column), result.c, result.w, out + (row - top) * pixels * lanes, lanes,
               channels, item.columns);
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// Both gradients where vectors hold pixels of the input (narrow.h).
#pragma once

#include "narrow.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// One place of a row of cells: dw [K * K], `dw_apart` elements from one tap of the convolution to the next, from the
// gradient g [depth], `g_apart` from one channel to the next. `weights` is scratch of a vector for every tap.
template <class T, class A = Accumulate<T>>
void narrow_place_gradient(A* dw, int64_t dw_apart, const A* g, int64_t g_apart, const A* lse, A* weights,
                           const NarrowInput<T>& input, const NarrowLogits<T>& logits, const Windows& own, int64_t row,
                           int64_t place) {
  constexpr int L = kLanes<A>;
  const int64_t K = own.K, depth = own.depth, apart = input.apart(), between = input.step();
  int64_t first, last;
  own.tap_rows(row, first, last);
  for (int64_t l = 0; l < input.pitch(); l += L) {
    A* to = dw + l;
    for (int64_t t = 0; t < K; ++t) {
      const bool inside = t >= first && t < last;
      const A* x = input.reads(t) + l;
      for (int64_t s = 0; s < K; ++s, x += between, to += dw_apart) {
        Vec<A> sum = {};
        if (inside)
          for (int64_t c = 0; c < depth; ++c) sum += vload(g + c * g_apart + l) * vload(x + c * apart);
        vstore(to, sum);
      }
    }
    if (!own.p.normalize) continue;
    Vec<A> delta = {};
    logits.visit(l, place, [&](const auto* from, int64_t step, int64_t) {
      for (int64_t k = 0; k < own.area; ++k) {
        const Vec<A> weight = vexp(widen_n<L>(from + k * step) - vload(lse + l));
        vstore(weights + k * L, weight);
        delta += weight * vload(dw + k * dw_apart + l);
      }
    });
    for (int64_t k = 0; k < own.area; ++k) {
      A* at = dw + k * dw_apart + l;
      vstore(at, vload(weights + k * L) * (vload(at) - delta));
    }
  }
}

template <class T>
void narrow_grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windows own(p, item, 1, 1);
  const int64_t scale = p.scale, depth = own.depth, area = own.area, block = narrow_block<T>(p, item);
  Arena arena;
  NarrowInput<T> input(own, block, arena);
  NarrowLogits<T> logits(own, item.column, item.columns, area, arena);
  const int64_t pitch = input.pitch(), apart = scale * pitch, places = logits.places();
  A* const weights = arena.array<A>(area * kLanes<A>);
  A* const g = arena.array<A>(block * depth * apart);    // [block, depth, scale, pitch]
  A* const lse = arena.array<A>(block * apart);          // [block, scale, pitch]
  A* const dw = arena.array<A>(area * places * pitch);   // [K * K, places, pitch]
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const Cells<const T> grad(p.grad, p, item, item.group * depth, false);
  const Cells<T> result(p.result, p, item, item.group * area, p.cells);
  const Cells<A> saved = lse_cells<A>(p, item);
  const int64_t dw_apart = (p.correlation ? -1 : 1) * places * pitch;
  input.begin();
  for (int64_t top = item.row; top < item.row + item.rows; top += block) {
    const int64_t end = std::min(top + block, item.row + item.rows);
    input.pack_until(source, end - 1);
    for (int64_t a = 0; a < scale; ++a) {
      for (int64_t row = top; row < end; ++row) {
        pack_cells(g + (row - top) * depth * apart, pitch, grad.at(0, row, item.column, a, 0), grad.column,
                   grad.first.w, grad.first.c, scale, item.columns, depth);
        if (p.normalize)
          pack_cells(lse + (row - top) * apart, pitch, static_cast<const A*>(saved.at(0, row, item.column, a, 0)),
                     saved.column, saved.first.w, 0, scale, item.columns, 1);
      }
      for (int64_t b = 0; b < scale; b += places)
        for (int64_t row = top; row < end; ++row) {
          if (p.normalize) logits.read(row, a, b, 0);
          input.aim(row);
          for (int64_t place = 0; place < places; ++place) {
            const int64_t at = (b + place) * pitch;
            narrow_place_gradient(dw + own.stored(0) * places * pitch + place * pitch, dw_apart,
                                  g + (row - top) * depth * apart + at, apart, lse + (row - top) * apart + at, weights,
                                  input, logits, own, row, place);
          }
          unpack_cells(result.at(0, row, item.column, a, b), result.column, result.first.w, result.first.c, dw, pitch,
                       places, item.columns, area);
        }
    }
  }
}

// Places of a row of taps, [tap, place], from `from` on that are read of columns of the item from `to` on.
struct Reads {
  int64_t from, to, length;
};

// The places, or rows, that read any of [first, last).
inline Readers readers_of(const Axis& axis, int64_t first, int64_t last) {
  Readers all{axis.places(), 0};
  for (int64_t source = first; source < last; ++source) {
    const Readers by = readers(axis, source);
    all = {std::min(all.first, by.first), std::max(all.last, by.last)};
  }
  return {std::min(all.first, all.last), all.last};
}

// What the K taps of a row, places [0, count) of which lie `pitch` apart, read of the item's columns; `lo` is the first
// place. Returns how many.
inline int64_t reads_of(Reads* reads, const Windows& own, int64_t lo, int64_t count, int64_t pitch) {
  int64_t found = 0;
  for (int64_t s = 0; s < own.K; ++s)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t x = own.columns.read(lo + j, s) - own.item.column;
      if (x < 0 || x >= own.item.columns) continue;
      Reads* const before = found > 0 ? reads + found - 1 : nullptr;
      if (before && before->from + before->length == s * pitch + j && before->to + before->length == x)
        ++before->length;
      else reads[found++] = {s * pitch + j, x, 1};
    }
  return found;
}

// Adds weight times gradient of a row of cells to the sums [depth, K, pitch] of one row of taps.
template <class T, class A = Accumulate<T>>
void add_tap_row(A* sums, int64_t pitch, const A* g, int64_t g_apart, const A* lse, const NarrowLogits<T>& logits,
                 const Windows& own, int64_t place) {
  constexpr int L = kLanes<A>;
  for (int64_t l = 0; l < pitch; l += L)
    logits.visit(l, place, [&](const auto* from, int64_t step, int64_t) {
      for (int64_t s = 0; s < own.K; ++s) {
        Vec<A> weight = widen_n<L>(from + s * step);
        if (own.p.normalize) weight = vexp(weight - vload(lse + l));
        for (int64_t c = 0; c < own.depth; ++c) {
          A* sum = sums + (c * own.K + s) * pitch + l;
          vstore(sum, vload(sum) + weight * vload(g + c * g_apart + l));
        }
      }
    });
}

// Gradients times weights are summed up for every tap of a row of taps over the places of a cell, then brought to the
// pixels that they read.
template <class T>
void narrow_grad_input(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windows own(p, item, 1, 1);
  const int64_t K = own.K, depth = own.depth, scale = p.scale, block = narrow_block<T>(p, item);
  const Readers columns = readers_of(own.columns, item.column, item.column + item.columns);
  const int64_t lo = columns.first, count = columns.last - lo, pitch = divide_up(count, kLanes<A>) * kLanes<A>;
  const int64_t item_end = item.row + item.rows, apart = scale * pitch, size = depth * K * pitch;
  int64_t most = 0;
  for (int64_t top = item.row; top < item_end; top += block) {
    const Readers by = readers_of(own.rows, top, std::min(top + block, item_end));
    most = std::max(most, by.last - by.first);
  }

  Arena arena;
  NarrowLogits<T> logits(own, lo, count, K, arena);
  A* const g = arena.array<A>(most * depth * apart);    // [most, depth, scale, pitch]
  A* const lse = arena.array<A>(most * apart);          // [most, scale, pitch]
  A* const sums = arena.array<A>(block * size);         // [block, depth, K, pitch]
  A* const out = arena.array<A>(depth * item.columns);  // [depth, columns]
  Reads* const reads = arena.array<Reads>(K * count);
  const Cells<const T> grad(p.data, p, item, item.group * depth, false);
  const Cells<A> saved = lse_cells<A>(p, item);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const int64_t found = reads_of(reads, own, lo, count, pitch);
  for (int64_t top = item.row; top < item_end; top += block) {
    const int64_t end = std::min(top + block, item_end);
    const Readers by = readers_of(own.rows, top, end);
    fill(sums, block * size, A(0));
    for (int64_t a = 0; a < scale; ++a) {
      for (int64_t i = by.first; i < by.last; ++i) {
        pack_cells(g + (i - by.first) * depth * apart, pitch, grad.at(0, i, lo, a, 0), grad.column, grad.first.w,
                   grad.first.c, scale, count, depth);
        if (p.normalize)
          pack_cells(lse + (i - by.first) * apart, pitch, static_cast<const A*>(saved.at(0, i, lo, a, 0)), saved.column,
                     saved.first.w, 0, scale, count, 1);
      }
      for (int64_t b = 0; b < scale; b += logits.places())
        for (int64_t row = top; row < end; ++row) {
          const Readers of_row = readers(own.rows, row);
          for (int64_t i = of_row.first; i < of_row.last; ++i)
            for (int64_t t = 0; t < K; ++t) {
              if (own.rows.read(i, t) != row) continue;
              logits.read(i, a, b, t * K);
              for (int64_t place = 0; place < logits.places(); ++place) {
                const int64_t at = (b + place) * pitch;
                add_tap_row(sums + (row - top) * size, pitch, g + (i - by.first) * depth * apart + at, apart,
                            lse + (i - by.first) * apart + at, logits, own, place);
              }
            }
        }
    }
    for (int64_t row = top; row < end; ++row) {
      fill(out, depth * item.columns, A(0));
      for (int64_t c = 0; c < depth; ++c)
        for (const Reads* run = reads; run < reads + found; ++run) {
          A* __restrict to = out + c * item.columns + run->to;
          const A* __restrict from = sums + (row - top) * size + c * K * pitch + run->from;
          for (int64_t k = 0; k < run->length; ++k) to[k] += from[k];
        }
      unpack(result.at(0, row, item.column), result.w, result.c, out, item.columns, item.columns, depth);
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

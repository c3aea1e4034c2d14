// A frame `scale` times as fine as the input, taken as cells: scale x scale places for each pixel of the input. Rows of
// cells are copied between tensors and dense blocks that have a row for each place.
#pragma once

#include "item.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Where a tensor has the places of its cells. They are pixels, or with `among_channels` channels: every channel of such
// a tensor is scale^2 of its memory, place by place.
template <class T>
struct Cells {
  Plane<T> first;       // of each cell's places the first
  int64_t row, column;  // from a place to the one below it, and to the next one in its row

  Cells(const View& view, const Problem& p, const Item& item, int64_t first_channel, bool among_channels) {
    const int64_t s = p.scale, places = among_channels ? s * s : 1;
    const auto fine = plane<T>(view, p, item, first_channel * places);
    if (among_channels) *this = {{fine.base, fine.c * places, fine.h, fine.w}, s * fine.c, fine.c};
    else *this = {{fine.base, fine.c, fine.h * s, fine.w * s}, fine.h, fine.w};
  }
  Cells(Plane<T> first, int64_t row, int64_t column) : first(first), row(row), column(column) {}

  // Place (a, b) of a cell.
  T* at(int64_t channel, int64_t cell_row, int64_t cell_column, int64_t a, int64_t b) const {
    return first.at(channel, cell_row, cell_column) + a * row + b * column;
  }
};

// Every other element of two vectors at once.
template <int L>
struct Evens {
  static constexpr int at(int i) { return 2 * i; }
};
template <int L>
struct Odds {
  static constexpr int at(int i) { return 2 * i + 1; }
};
// The first, or the last, halves of both, element by element in turns.
template <int L>
struct FirstHalves {
  static constexpr int at(int i) { return (i % 2 ? L : 0) + i / 2; }
};
template <int L>
struct LastHalves {
  static constexpr int at(int i) { return FirstHalves<L>::at(i) + L / 2; }
};

// Element S * x + b of S vectors in a row becomes element x of v[b]; S is a power of two.
template <int S, int L, class V>
SVCONV_INLINE void split_places(V (&v)[S]) {
  constexpr auto all = std::make_index_sequence<L>();
#pragma GCC unroll 4
  for (int level = 1; level < S; level *= 2) {
    V sorted[S];
#pragma GCC unroll 8
    for (int i = 0; i < S / 2; ++i) {
      sorted[i] = pick<Evens>(v[2 * i], v[2 * i + 1], all);
      sorted[i + S / 2] = pick<Odds>(v[2 * i], v[2 * i + 1], all);
    }
#pragma GCC unroll 8
    for (int i = 0; i < S; ++i) v[i] = sorted[i];
  }
}

// The inverse.
template <int S, int L, class V>
SVCONV_INLINE void join_places(V (&v)[S]) {
  constexpr auto all = std::make_index_sequence<L>();
#pragma GCC unroll 4
  for (int level = 1; level < S; level *= 2) {
    V mixed[S];
#pragma GCC unroll 8
    for (int i = 0; i < S / 2; ++i) {
      mixed[2 * i] = pick<FirstHalves>(v[i], v[i + S / 2], all);
      mixed[2 * i + 1] = pick<LastHalves>(v[i], v[i + S / 2], all);
    }
#pragma GCC unroll 8
    for (int i = 0; i < S; ++i) v[i] = mixed[i];
  }
}

// A row of cells whose S places lie side by side, to a row of each place and back: dst[b * pitch + x] is
// src[x * S + b] for x < columns; zeros follow up to `pitch`, the next whole vector.
template <int S, class T, class A = Accumulate<T>>
void split_row(A* dst, int64_t pitch, const T* src, int64_t columns) {
  constexpr int L = kLanes<A>;
  const auto split = [&](int64_t x, const T* from) {
    Vec<A> v[S];
#pragma GCC unroll 8
    for (int i = 0; i < S; ++i) {
      // Rows are short: the next one, which mostly follows, is asked for while this one is read.
      __builtin_prefetch(from + columns * S + i * L);
      v[i] = widen_n<L>(from + i * L);
    }
    split_places<S, L>(v);
#pragma GCC unroll 8
    for (int b = 0; b < S; ++b) vstore(dst + b * pitch + x, v[b]);
  };
  const int64_t whole = columns / L * L;
  for (int64_t x = 0; x < whole; x += L) split(x, src + x * S);
  if (whole == columns) return;
  T block[S * L] = {};
  std::memcpy(block, src + whole * S, (columns - whole) * S * sizeof(T));
  split(whole, block);
}
template <int S, class T, class A = Accumulate<T>>
void join_row(T* dst, const A* src, int64_t pitch, int64_t columns) {
  constexpr int L = kLanes<A>;
  const auto join = [&](T* to, int64_t x) {
    Vec<A> v[S];
#pragma GCC unroll 8
    for (int b = 0; b < S; ++b) v[b] = vload(src + b * pitch + x);
    join_places<S, L>(v);
#pragma GCC unroll 8
    for (int i = 0; i < S; ++i) narrow_n(to + i * L, v[i]);
  };
  const int64_t whole = columns / L * L;
  for (int64_t x = 0; x < whole; x += L) join(dst + x * S, x);
  if (whole == columns) return;
  T block[S * L];
  join(block, whole);
  std::memcpy(dst + whole * S, block, (columns - whole) * S * sizeof(T));
}

// Calls act(S) with the number of places as a constant if vectors take them apart, and returns true.
template <class Act>
bool in_turns(int64_t place, int64_t column, int64_t places, const Act& act) {
  if (place != 1 || column != places) return false;
  switch (places) {
    case 2: act(std::integral_constant<int, 2>()); return true;
    case 4: act(std::integral_constant<int, 4>()); return true;
    case 8: act(std::integral_constant<int, 8>()); return true;
    default: return false;
  }
}

// dst[(m * places + b) * pitch + x] = src[m * minor + x * column + b * place] for x < columns; zeros follow up to
// `pitch`, the next whole vector.
template <class T, class A = Accumulate<T>>
void pack_cells(A* dst, int64_t pitch, const T* src, int64_t place, int64_t column, int64_t minor, int64_t places,
                int64_t columns, int64_t minors) {
  if (in_turns(place, column, places, [&](auto S) {
        for (int64_t m = 0; m < minors; ++m) split_row<S>(dst + m * S * pitch, pitch, src + m * minor, columns);
      }))
    return;
  for (int64_t b = 0; b < places; ++b)
    pack(dst + b * pitch, places * pitch, src + b * place, column, minor, Span{0, columns, pitch},
         Span{0, minors, minors}, A(0));
}

// dst[m * minor + x * column + b * place] = src[(m * places + b) * pitch + x] for x < columns.
template <class T, class A = Accumulate<T>>
void unpack_cells(T* dst, int64_t place, int64_t column, int64_t minor, const A* src, int64_t pitch, int64_t places,
                  int64_t columns, int64_t minors) {
  if (in_turns(place, column, places, [&](auto S) {
        for (int64_t m = 0; m < minors; ++m) join_row<S>(dst + m * minor, src + m * S * pitch, pitch, columns);
      }))
    return;
  for (int64_t b = 0; b < places; ++b)
    unpack(dst + b * place, column, minor, src + b * pitch, places * pitch, columns, minors);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

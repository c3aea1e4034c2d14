// What the products read on windows that aren't plain where a group has few channels, such as flow or disparity, or
// where logits have a channel for each place of a cell: a vector holds pixels of the input, for channels would not fill
// one. All places of a cell read one window, so that at a scale a vector reads what it would read without.
#pragma once

#include "cells.h"
#include "windowed.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// The rows of the input that a block of rows reads. Columns that windows don't move along by one are laid out as each
// tap reads them, once for all rows of taps that read the row.
template <class T>
class NarrowInput {
 public:
  using A = Accumulate<T>;

  // Blocks have up to `block` rows.
  NarrowInput(const Windows& own, int64_t block, Arena& arena)
      : own_(own),
        lo_(own.columns.centre(own.item.column) - own.r),
        count_(own.columns.centre(own.item.column + own.item.columns - 1) + own.r + 1 - lo_),
        pitch_(divide_up(own.item.columns, kLanes<A>) * kLanes<A>),
        in_a_row_(count_ == own.item.columns + own.K - 1 && moves_by_one()),
        apart_(in_a_row_ ? pitch_ + own.K - 1 : own.K * pitch_),
        slots_(block + own.K - 1),
        base_(own.rows.centre(own.item.row) - own.r),
        packed_(base_),
        offsets_(arena.array<int64_t>(own.item.columns)),
        line_(arena.array<A>(in_a_row_ ? 0 : own.depth * count_)),
        x_(arena.array<A>(slots_ * own.depth * apart_)),
        reads_(arena.array<const A*>(own.K)) {}

  int64_t pitch() const { return pitch_; }
  // From a channel to the next.
  int64_t apart() const { return apart_; }
  // From what a tap reads to what the next one of its row reads.
  int64_t step() const { return in_a_row_ ? -1 : pitch_; }

  void begin() {
    for (int64_t j = 0; j < own_.item.columns; ++j)
      offsets_[j] = own_.columns.centre(own_.item.column + j) - own_.r - lo_;
    fill(x_, slots_ * own_.depth * apart_, A(0));
  }

  // Packs what windows up to those of `last`, a block's last row, hold and those before did not.
  void pack_until(const Plane<const T>& source, int64_t last) {
    const int64_t K = own_.K, columns = own_.item.columns;
    for (const int64_t bottom = own_.rows.centre(last) + own_.r; packed_ <= bottom; ++packed_) {
      A* to = x_ + (packed_ - base_) % slots_ * own_.depth * apart_;
      A* const line = in_a_row_ ? to : line_;
      const int64_t size = in_a_row_ ? apart_ : count_;
      pack_positions(line, size, source, 0, own_.depth, own_.rows.at(packed_), own_.columns, lo_, count_, true);
      if (in_a_row_) continue;
      for (int64_t c = 0; c < own_.depth; ++c)
        for (int64_t s = 0; s < K; ++s) {
          // Tap s reads K - 1 - s columns from the window's first.
          const A* from = line + c * count_ + K - 1 - s;
          A* tap = to + c * apart_ + s * pitch_;
          for (int64_t j = 0; j < columns; ++j) tap[j] = from[offsets_[j]];
        }
    }
  }

  // Windows are those of `row` from here on.
  void aim(int64_t row) {
    for (int64_t t = 0; t < own_.K; ++t) {
      const int64_t slot = (own_.rows.centre(row) + own_.r - t - base_) % slots_;
      reads_[t] = x_ + slot * own_.depth * apart_ + (in_a_row_ ? own_.K - 1 : 0);
    }
  }

  // What the first tap of row t of taps reads of the first channel.
  const A* reads(int64_t t) const { return reads_[t]; }

 private:
  bool moves_by_one() const {
    for (int64_t j = 1; j < own_.item.columns; ++j)
      if (own_.columns.centre(own_.item.column + j) != own_.columns.centre(own_.item.column) + j) return false;
    return true;
  }

  const Windows& own_;
  const int64_t lo_, count_, pitch_;
  const bool in_a_row_;
  const int64_t apart_, slots_, base_;
  int64_t packed_;
  int64_t* const offsets_;
  A *const line_, *const x_;
  const A** const reads_;
};

// The logits of a row of cells, a few taps and places at a time. Those that lie in a row are read where they are,
// others are packed.
template <class T>
class NarrowLogits {
 public:
  using A = Accumulate<T>;
  static constexpr int L = kLanes<A>;

  // Reads cells [column, column + columns), `taps` at a time.
  NarrowLogits(const Windows& own, int64_t column, int64_t columns, int64_t taps, Arena& arena)
      : own_(own),
        cells_(own.p.logits, own.p, own.item, own.item.group * own.area, own.p.cells),
        column_(column),
        columns_(columns),
        taps_(taps),
        pitch_(divide_up(columns, L) * L),
        excludes_(own.p.normalize && own.p.renormalize && taps == own.area),
        direct_(cells_.first.w == 1 && !excludes_),
        places_(direct_ ? 1 : own.p.scale),
        packed_(arena.array<A>(taps * places_ * pitch_)) {}

  // How many places in a row of a cell are read at a time.
  int64_t places() const { return places_; }

  // Reads the taps of the convolution from `first` on, and in row a of the cells the places from b on.
  void read(int64_t row, int64_t a, int64_t b, int64_t first) {
    row_ = at(row, a, b, first);
    if (!direct_)
      pack_cells(packed_, pitch_, row_, cells_.column, cells_.first.w, cells_.first.c, places_, columns_, taps_);
    else if (const int64_t whole = columns_ / L * L; whole < columns_)
      for (int64_t k = 0; k < taps_; ++k)
        vstore(packed_ + k * pitch_ + whole, widen_part<L>(row_ + k * cells_.first.c + whole, columns_ - whole));
    if (excludes_) exclude_outside(row);
    ahead_ = 0;
  }
  // The memory of what is read next is asked for while this is visited.
  void expect(int64_t row, int64_t a, int64_t b, int64_t first) {
    if (direct_) ahead_ = at(row, a, b, first) - row_;
  }

  // Calls visit(logits, step, ahead) with where the cells from l on have a place's logits of the first tap, from there
  // to those of the next, and to what is expected to be read next.
  template <class Visit>
  SVCONV_INLINE void visit(int64_t l, int64_t place, const Visit& visit) const {
    const int64_t first = own_.p.correlation ? taps_ - 1 : 0, step = own_.p.correlation ? -1 : 1;
    const int64_t apart = places_ * pitch_;
    if (direct_ && l + L <= columns_) visit(row_ + first * cells_.first.c + l, step * cells_.first.c, ahead_);
    else visit(static_cast<const A*>(packed_ + first * apart + place * pitch_ + l), step * apart, int64_t(0));
  }

 private:
  const T* at(int64_t row, int64_t a, int64_t b, int64_t first) const {
    // The last of them lies first where taps are those of a correlation.
    return cells_.at(own_.p.correlation ? own_.stored(first + taps_ - 1) : first, row, column_, a, b);
  }

  void exclude_outside(int64_t row) {
    for (int64_t k = 0; k < own_.area; ++k)
      for (int64_t j = 0; j < columns_; ++j) {
        if (own_.inside(k, row, j)) continue;
        for (int64_t b = 0; b < places_; ++b)
          packed_[(own_.stored(k) * places_ + b) * pitch_ + j] = -std::numeric_limits<A>::infinity();
      }
  }

  const Windows& own_;
  const Cells<const T> cells_;
  const int64_t column_, columns_, taps_, pitch_;
  const bool excludes_, direct_;
  const int64_t places_;
  A* const packed_;
  const T* row_ = nullptr;
  int64_t ahead_ = 0;
};

// Rows whose places are computed one after another. Where logits have a plane for each place, a page of it is read at a
// time.
template <class T>
int64_t narrow_block(const Problem& p, const Item& item) {
  constexpr int64_t page = 4096;
  const int64_t rows = p.cells ? page / (item.columns * int64_t(sizeof(T))) : 1;
  return std::min(std::max<int64_t>(rows, 1), item.rows);
}

template <class A>
Cells<A> lse_cells(const Problem& p, const Item& item) {
  return {lse_view(p), p, item, item.group, p.cells};
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

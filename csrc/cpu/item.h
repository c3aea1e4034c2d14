// One work item: a block of rows and columns of one image, group and sub-image of a product's frame.
#pragma once

#include "frame.h"
#include "kernels.h"
#include "pack.h"

#include <algorithm>

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Kernels never see a dilation: an item's rows and columns are those of its sub-image (SubImages).
struct Item {
  int64_t n, group, row_phase, column_phase;
  int64_t height, width;     // of the sub-image
  int64_t row, rows;         // first row, number of rows
  int64_t column, columns;   // first column, number of columns
};

// False if the item is empty: sub-images differ in size by one row or column.
inline bool item_at(const Problem& p, const Plan& plan, int64_t index, Item& item) {
  const SubImages images = sub_images(p);
  const auto take = [&index](int64_t size) {
    const int64_t digit = index % size;
    index /= size;
    return digit;
  };
  item.column = take(divide_up(images.width, plan.columns)) * plan.columns;
  item.row = take(divide_up(images.height, plan.rows)) * plan.rows;
  item.column_phase = take(images.columns);
  item.row_phase = take(images.rows);
  item.group = take(p.groups);
  item.n = index;
  item.height = divide_up(p.height - item.row_phase, p.dilation);
  item.width = divide_up(p.width - item.column_phase, p.dilation);
  item.rows = std::min(plan.rows, item.height - item.row);
  item.columns = std::min(plan.columns, item.width - item.column);
  return item.rows > 0 && item.columns > 0;
}

// A plane of a tensor as the item's sub-image sees it: element (c, row, column).
template <class T>
struct Plane {
  T* base;
  int64_t c, h, w;
  SVCONV_INLINE T* at(int64_t channel, int64_t row, int64_t column) const {
    return base + channel * c + row * h + column * w;
  }
};

template <class T>
Plane<T> plane(const View& v, const Problem& p, const Item& item, int64_t first_channel) {
  T* base = static_cast<T*>(v.data) + item.n * v.n + first_channel * v.c + item.row_phase * v.h +
            item.column_phase * v.w;
  return {base, v.c, v.h * p.dilation, v.w * p.dilation};
}

// True for results so large that they push all else out of the caches and are gone from there before they are read.
// They go straight to memory, which is then not read before it is written. Lines of them are whole, from the item's
// first column or from the first channel of a chunk on.
template <class T>
bool goes_past_caches(Plane<T> result, const Problem& p, const Item& item) {
  constexpr int64_t large = int64_t(16) << 20, line = 64;
  const auto whole = [](int64_t stride) { return stride == 1 || stride * int64_t(sizeof(T)) % line == 0; };
  return p.batch * p.channels * p.height * p.width * int64_t(sizeof(T)) >= large && whole(result.c) &&
         whole(result.h) && whole(result.w) &&
         reinterpret_cast<uintptr_t>(result.at(0, item.row, item.column)) % line == 0;
}

// The log-sum-exp, which is contiguous.
inline View lse_view(const Problem& p) {
  const int64_t scale = p.cells ? p.scale : 1, height = p.height / scale, width = p.width / scale;
  return {p.lse, p.groups * p.height * p.width, height * width, width, 1};
}

template <class A>
Plane<A> lse_plane(const Problem& p, const Item& item) {
  return plane<A>(lse_view(p), p, item, item.group);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

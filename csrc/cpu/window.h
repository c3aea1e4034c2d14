// Which pixels a window reads, along rows or columns: the one place of the kernels that knows borders and scale.
#pragma once

#include "../problem.h"

#include <algorithm>

namespace svconv::cpu {
namespace {

// Rows or columns. `places` of the result share the `size` of the input: `scale` times as many.
struct Axis {
  int64_t size, scale, radius;
  Border border;

  int64_t places() const { return size * scale; }

  // The position that the window of a place has its centre at.
  int64_t centre(int64_t place) const {
    const int64_t own = place / scale;
    return border == Border::shift ? std::min(std::max(own, radius), size - 1 - radius) : own;
  }

  // The row or column of the input that lies at a position; -1 for none.
  int64_t at(int64_t position) const {
    if (position >= 0 && position < size) return position;
    switch (border) {
      case Border::reflect: return position < 0 ? -position : 2 * (size - 1) - position;
      case Border::replicate: return position < 0 ? 0 : size - 1;
      default: return -1;
    }
  }

  // What tap k of a convolution reads.
  int64_t read(int64_t place, int64_t k) const { return at(centre(place) - (k - radius)); }
};

// Places [first, last) of the result whose windows hold a row or column of the input. None between them has a window
// without it.
struct Readers {
  int64_t first, last;
};

inline Readers readers(const Axis& axis, int64_t source) {
  // A window's centre is as far from what it holds as its radius; a shifted centre as far again from its place. What
  // lies at mirrored positions is nearer than that.
  const int64_t reach = axis.border == Border::shift ? 2 * axis.radius : axis.radius;
  Readers found{std::max<int64_t>(0, (source - reach) * axis.scale),
                std::min(axis.places(), (source + reach + 1) * axis.scale)};
  const auto holds = [&](int64_t place) {
    for (int64_t k = 0; k <= 2 * axis.radius; ++k)
      if (axis.read(place, k) == source) return true;
    return false;
  };
  while (found.first < found.last && !holds(found.first)) ++found.first;
  while (found.last > found.first && !holds(found.last - 1)) --found.last;
  return found;
}

}  // namespace
}  // namespace svconv::cpu

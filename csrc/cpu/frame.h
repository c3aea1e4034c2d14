// The frame that a product's work items are blocks of.
#pragma once

#include "../shared.h"

namespace svconv::cpu {

// Whether vectors hold pixels of the input (narrow.h): with more channels, vectors of channels share their loads of
// weights.
static inline bool is_narrow(const Problem& p) { return !p.plain() && (p.cells || p.channels / p.groups <= 8); }

// The problem with that frame's height and width.
static inline Problem frame_of(Product product, Problem p) {
  if (product == Product::grad_input || is_narrow(p)) {
    p.height /= p.scale;
    p.width /= p.scale;
  }
  return p;
}

}  // namespace svconv::cpu

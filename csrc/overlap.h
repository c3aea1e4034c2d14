// Whether the elements of strided arrays share memory: what is asked before a product is written to memory that the
// caller gives. Plain C++ for torch's tensors (tensors.h) and for Python (bindings.cpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace svconv {

// An array's memory: the address of its first element, and for each dimension its size and its stride in elements,
// which is not negative.
struct Memory {
  uintptr_t address = 0;
  int64_t element_bytes = 1;
  std::vector<int64_t> sizes, strides;

  bool empty() const { return std::find(sizes.begin(), sizes.end(), 0) != sizes.end(); }
  // The address behind the last element.
  uintptr_t end() const {
    int64_t last = 0;
    for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
    return address + uintptr_t((last + 1) * element_bytes);
  }
};

// True if two elements may lie at one address: a stride doesn't step over all that the smaller strides reach, as in
// views of a dense array each one does.
inline bool overlaps_itself(const Memory& a) {
  if (a.empty()) return false;
  std::vector<std::pair<int64_t, int64_t>> steps;
  for (size_t d = 0; d < a.sizes.size(); ++d)
    if (a.sizes[d] > 1) steps.emplace_back(a.strides[d], a.sizes[d]);
  std::sort(steps.begin(), steps.end());
  int64_t reach = 0;
  for (const auto& [stride, size] : steps) {
    if (stride <= reach) return true;
    reach += stride * (size - 1);
  }
  return false;
}

namespace overlap {

// A stride times every number from `least` to `most`.
struct Term {
  int64_t stride, least, most;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// True if `distance` is a sum of one value of each of terms[first..], whose strides fall and are positive. True as well
// where that is not known after `work` steps.
inline bool reaches(const std::vector<Term>& terms, size_t first, int64_t distance, int& work) {
  if (--work < 0) return true;
  if (first == terms.size()) return distance == 0;
  int64_t least = 0, most = 0;  // what the later terms sum up to
  for (size_t t = first + 1; t < terms.size(); ++t) {
    least += terms[t].stride * terms[t].least;
    most += terms[t].stride * terms[t].most;
  }
  const Term& term = terms[first];
  const int64_t from = std::max(term.least, -floor_div(most - distance, term.stride));
  const int64_t to = std::min(term.most, floor_div(distance - least, term.stride));
  for (int64_t k = from; k <= to; ++k)
    if (reaches(terms, first + 1, distance - k * term.stride, work)) return true;
  return false;
}

}  // namespace overlap

// True if an element of `a` lies in the memory of one of `b`. Exact for arrays that lie in each other's gaps, such as
// channels of one buffer; where strides are so odd that an answer takes long, the answer is true.
inline bool share_memory(const Memory& a, const Memory& b) {
  if (a.empty() || b.empty() || a.end() <= b.address || b.end() <= a.address) return false;
  const int64_t bytes = a.element_bytes, apart = int64_t(b.address - a.address);
  if (bytes != b.element_bytes || apart % bytes != 0) return true;
  std::vector<overlap::Term> terms;
  for (size_t d = 0; d < a.sizes.size(); ++d)
    if (a.strides[d] > 0 && a.sizes[d] > 1) terms.push_back({a.strides[d], 0, a.sizes[d] - 1});
  for (size_t d = 0; d < b.sizes.size(); ++d)
    if (b.strides[d] > 0 && b.sizes[d] > 1) terms.push_back({b.strides[d], 1 - b.sizes[d], 0});
  std::sort(terms.begin(), terms.end(), [](const auto& x, const auto& y) { return x.stride > y.stride; });
  int work = 1 << 12;
  return overlap::reaches(terms, 0, apart / bytes, work);
}

}  // namespace svconv

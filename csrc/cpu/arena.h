// Arrays of the calling thread's scratch memory.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Hands out aligned arrays of the thread's scratch memory.
class Arena {
 public:
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)) {}

  template <class A>
  A* array(int64_t count) {
    A* const here = base_ ? reinterpret_cast<A*>(base_ + size_) : nullptr;
    size_ += (count * sizeof(A) + 127) / 64 * 64;
    return here;
  }
  size_t size() const { return size_; }

 private:
  char* base_;
  size_t size_ = 0;
};

// The arrays that `lay_out(arena)` takes of an arena. It is called twice, for the scratch memory's size must be known
// before: first with an arena without memory, which only counts.
template <class LayOut>
auto in_scratch(const LayOut& lay_out) {
  Arena counted(nullptr);
  lay_out(counted);
  Arena arena(scratch(counted.size()));
  return lay_out(arena);
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

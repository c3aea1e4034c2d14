// Arrays of the calling thread's scratch memory.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Hands out arrays that last as long as it does. A thread has one at a time.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { end_scratch(); }

  // `count` elements, 64-byte aligned; a whole vector may be read and written beyond the last.
  template <class A>
  A* array(int64_t count) {
    return static_cast<A*>(take_scratch(count * sizeof(A) + 64));
  }
};

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

// The boundary of the CPU library: plain pointers and sizes in, no torch. The torch glue (ops.cpp) and the Python
// module (bindings.cpp) use it.
#pragma once

#include "../problem.h"

#include <cstddef>
#include <cstdint>

#define SVCONV_API __attribute__((visibility("default")))

namespace svconv::cpu {

using svconv::Problem;
using svconv::Product;
using svconv::Type;
using svconv::View;

// The threads that the product is worth: one for every so many multiply-adds, at least one and at most `most`. A small
// product stays on the caller's thread. docs/backends.md has the measurement.
SVCONV_API int64_t threads_for(const Problem& problem, int64_t most);

// How a problem is cut into work items: the rows and columns of a sub-image that one covers, and their number.
struct Plan {
  int64_t rows = 0, columns = 0, items = 0;
};

// Cuts the problem into independent work items. The cut changes nothing in the result: every output element is computed
// in the same order whatever it is.
SVCONV_API Plan plan(Product product, const Problem& problem, int64_t threads);

// Computes items [begin, end) on the calling thread.
SVCONV_API void run(Product product, const Problem& problem, const Plan& plan, int64_t begin, int64_t end);

// Instruction sets: compiled into this library, from the plainest to the widest.
struct InstructionSet {
  const char* name;
  bool supported;  // by this machine
  void (*run)(Product, const Problem&, const Plan&, int64_t begin, int64_t end);
};
SVCONV_API const InstructionSet* instruction_sets(int* count);
SVCONV_API const char* active_instruction_set();
// Forces one by name, null for the widest supported; false if unknown or not supported.
SVCONV_API bool force_instruction_set(const char* name);

// Asks for huge pages under a fresh allocation: faulting in a large result in 4 KiB pages takes longer than
// computing it. It is a hint, and does nothing to small arrays or where there is no such call.
SVCONV_API void advise_huge_pages(void* data, size_t bytes);

// Faults in the pages of [data, data + bytes) at once. Threads that each do so for a part of a result share the
// clearing of its pages; left to the kernels, those that meet in a huge page would all clear it. A hint as well.
SVCONV_API void populate_pages(void* data, size_t bytes);

// Memory in whole huge pages, `fresh` if the system has just given it: then its pages are still to be faulted in.
struct Pages {
  void* data = nullptr;
  size_t bytes = 0;
  bool fresh = false;
};
// At least so many bytes, kept ones if there are any; null data if there is no memory.
SVCONV_API Pages take_pages(size_t bytes);
// Gives back what was taken: it is kept for the next result, up to 512 MiB in all. Any thread may call it.
SVCONV_API void give_pages(Pages pages);

// The size of a core's second-level cache, 1 MiB where the system doesn't say.
int64_t l2_bytes();

// Scratch memory of the calling thread, 64-byte aligned, until `end_scratch`. What a product took is kept as one block
// for the next, so that only the first one of a size asks the system for memory.
void* take_scratch(size_t bytes);
void end_scratch() noexcept;

}  // namespace svconv::cpu

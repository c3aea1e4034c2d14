// The boundary of the CPU library: plain pointers and sizes in, no torch.
// Used by the torch glue (ops.cpp) and by the Python module (bindings.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#define SVCONV_API __attribute__((visibility("default")))

namespace svconv::cpu {

enum class Type { float32, float64, float16, bfloat16 };
enum class Product { forward, grad_input, grad_weight };

// A 4-d array (N, channels, H, W); strides count elements, any value.
struct View {
  void* data = nullptr;
  int64_t n = 0, c = 0, h = 0, w = 0;
};

// One product on one set of tensors.
//   forward:      data = input,     result = out
//   grad_input:   data = grad_out,  result = grad_input
//   grad_weight:  data = input, grad = grad_out,  result = grad_logits
// lse is contiguous (N, groups, H, W) in the accumulation type: written by forward,
// read by the other two; null where normalize is false.
struct Problem {
  Type type = Type::float32;
  int64_t batch = 0, channels = 0, groups = 1, height = 0, width = 0;
  int64_t kernel = 1, dilation = 1;
  bool normalize = true, renormalize = false;
  View data, grad, logits, result;
  void* lse = nullptr;
  // Set by plan(): the rows and columns that one work item covers.
  int64_t band = 0, strip = 0;
};

// Cuts the problem into independent work items and returns their number. The cut changes
// nothing in the result: every output element is computed in the same order whatever it is.
SVCONV_API int64_t plan(Product product, Problem& problem, int64_t threads);

// Computes items [begin, end) on the calling thread.
SVCONV_API void run(Product product, const Problem& problem, int64_t begin, int64_t end);

// Instruction sets: compiled into this library, from the plainest to the widest.
struct InstructionSet {
  const char* name;
  bool supported;  // by this machine
  void (*run)(Product, const Problem&, int64_t begin, int64_t end);
};
SVCONV_API const InstructionSet* instruction_sets(int* count);
SVCONV_API const char* active_instruction_set();
// Forces one by name, null for the widest supported; false if unknown or not supported.
SVCONV_API bool force_instruction_set(const char* name);

// Asks for huge pages under a fresh allocation: faulting in a large result in 4 KiB pages takes longer than
// computing it. A hint; does nothing to small arrays or where there is no such call.
SVCONV_API void advise_huge_pages(void* data, size_t bytes);

// Faults in the pages of [data, data + bytes) at once. Threads that each do so for a part of a result share the
// clearing of its pages; left to the kernels, those that meet in a huge page would all clear it. A hint, too.
SVCONV_API void populate_pages(void* data, size_t bytes);

// The calling thread's scratch memory, 64-byte aligned, kept between calls.
void* scratch(size_t bytes);

}  // namespace svconv::cpu

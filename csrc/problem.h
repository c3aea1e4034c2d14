// A product's data as plain pointers and sizes, shared by the CPU and the CUDA kernels and their glue.
#pragma once

#include <cstdint>

namespace svconv {

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
// lse is contiguous (N, groups, H, W) in the accumulation type: written by forward, read by the other two; null where
// normalize is false, and on the CPU where forward need not write it.
struct Problem {
  Type type = Type::float32;
  int64_t batch = 0, channels = 0, groups = 1, height = 0, width = 0;
  int64_t kernel = 1, dilation = 1;
  bool normalize = true, renormalize = false;
  View data, grad, logits, result;
  void* lse = nullptr;
};

}  // namespace svconv

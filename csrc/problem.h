// A product's data as plain pointers and sizes, shared by the CPU and the CUDA kernels and their glue.
#pragma once

#include <algorithm>
#include <cstdint>

namespace svconv {

enum class Type { float32, float64, float16, bfloat16 };
enum class Product { forward, grad_input, grad_weight };
// What taps outside the frame read; a schema has their numbers. shift: the window is moved inwards instead.
enum class Border : int64_t { zeros, shift, reflect, replicate };

// A 4-d array (N, channels, H, W); strides count elements, any value.
struct View {
  void* data = nullptr;
  int64_t n = 0, c = 0, h = 0, w = 0;
};

// One product on one set of tensors.
//   forward:      data = input,     result = out
//   grad_input:   data = grad_out,  result = grad_input
//   grad_weight:  data = input, grad = grad_out,  result = grad_logits
// height and width are those of the result: `scale` times those of the input.
// lse is contiguous (N, groups, H, W) in the accumulation type: written by forward, read by the other two; null where
// normalize is false, and on the CPU where forward need not write it.
// With `cells` logits, grad_logits and lse have height and width of the input, and scale^2 channels in place of each
// one: those of the scale x scale pixels that a pixel of the input becomes, row by row.
struct Problem {
  Type type = Type::float32;
  int64_t batch = 0, channels = 0, groups = 1, height = 0, width = 0;
  int64_t kernel = 1, dilation = 1;
  bool normalize = true, renormalize = false;
  Border border = Border::zeros;
  bool correlation = false;  // taps in reverse
  int64_t scale = 1;
  bool cells = false;  // only with a scale
  View data, grad, logits, result;
  void* lse = nullptr;

  // Windows that all kernels read; any others are the CPU's alone (cpu/windowed.h).
  bool plain() const { return border == Border::zeros && !correlation && scale == 1; }
};

// A dilation without which nothing changes, and none of whose products overflows: taps that are further apart than the
// frame is large all lie outside it.
inline int64_t least_dilation(int64_t dilation, int64_t height, int64_t width) {
  return std::min(dilation, std::max(height, width) + 1);
}

}  // namespace svconv

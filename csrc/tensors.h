// Makes a Problem from torch's tensors, on torch's stable ABI. The checks repeat those of the Python side
// (svconv/arguments.py), whose errors name the mend.
#pragma once

#include "overlap.h"
#include "problem.h"

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>

namespace svconv {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Type type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Type::float32;
    case ScalarType::Double: return Type::float64;
    case ScalarType::Half: return Type::float16;
    case ScalarType::BFloat16: return Type::bfloat16;
    default: STD_TORCH_CHECK(false, "svconv: expected a floating point tensor of 16, 32 or 64 bits");
  }
}

inline View view(const Tensor& t) {
  return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

inline void check_shape(const Tensor& t, int64_t n, int64_t c, int64_t h, int64_t w, ScalarType type,
                        const Tensor& data, const char* name) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == n && t.size(1) == c && t.size(2) == h && t.size(3) == w,
                  "svconv: expected ", name, " of shape (", n, ", ", c, ", ", h, ", ", w, ")");
  STD_TORCH_CHECK(t.scalar_type() == type && t.is_cuda() == data.is_cuda() &&
                      t.get_device_index() == data.get_device_index(),
                  "svconv: expected ", name, " of the type and device of data");
}

inline Memory memory(const Tensor& t) {
  Memory m{reinterpret_cast<uintptr_t>(t.data_ptr()), int64_t(t.element_size()), {}, {}};
  for (int64_t d = 0; d < t.dim(); ++d) {
    m.sizes.push_back(t.size(d));
    m.strides.push_back(t.stride(d));
  }
  return m;
}

// A compiled program comes here with whatever memory its caller gave, so it is looked at in every call.
inline void check_own_memory(const Tensor& out, const Tensor& input, const Tensor& logits) {
  const Memory result = memory(out);
  STD_TORCH_CHECK(!overlaps_itself(result), "svconv::forward_into: expected out with memory for every element, got ",
                  "strides (", out.stride(0), ", ", out.stride(1), ", ", out.stride(2), ", ", out.stride(3),
                  "); don't expand it");
  STD_TORCH_CHECK(!share_memory(result, memory(input)) && !share_memory(result, memory(logits)),
                  "svconv::forward_into: expected out with memory of its own, got memory of input or logits; give it "
                  "a tensor of its own, for example torch.empty_like(input)");
}

inline void check_frame(Border border, int64_t side, int64_t kernel_size, int64_t dilation) {
  const int64_t least = border == Border::shift       ? dilation * kernel_size
                        : border == Border::reflect   ? dilation * (kernel_size / 2) + 1
                        : border == Border::replicate ? 1
                                                      : 0;
  STD_TORCH_CHECK(side >= least, "svconv: expected at least ", least, " rows and columns for this border");
}

// What a schema says of windows that aren't plain.
struct Window {
  int64_t border;
  bool correlation;
  int64_t scale;
  bool cells;
};

// How many times the pixels of logits, and of the log-sum-exp, their frame has: with cells the others are channels.
inline int64_t coarseness(const Problem& p) { return p.cells ? p.scale : 1; }

inline void check_weights_shape(const Problem& p, const Tensor& t, int64_t channels, ScalarType type,
                                const Tensor& data, const char* name) {
  const int64_t s = coarseness(p);
  check_shape(t, p.batch, s * s * channels, p.height / s, p.width / s, type, data, name);
}

// `fine`: the data are as large as the logits, not `scale` times smaller.
inline Problem problem_of(const Tensor& data, const Tensor& logits, int64_t kernel_size, int64_t dilation,
                          int64_t groups, bool normalize, bool renormalize, const Window& window, bool fine = false) {
  STD_TORCH_CHECK(data.dim() == 4, "svconv: expected a 4-d tensor");
  STD_TORCH_CHECK(kernel_size > 0 && kernel_size % 2 == 1 && kernel_size < INT32_MAX && dilation > 0 && groups > 0,
                  "svconv: expected an odd kernel_size of 31 bits, and a positive dilation and groups");
  STD_TORCH_CHECK(data.size(1) % groups == 0, "svconv: expected channels divisible by groups");
  Problem p;
  p.type = type_of(data);
  p.batch = data.size(0);
  p.channels = data.size(1);
  STD_TORCH_CHECK(window.scale > 0 && window.border >= 0 && window.border <= int64_t(Border::replicate),
                  "svconv: expected a positive scale and a border from 0 to 3");
  const int64_t times = fine ? 1 : window.scale;
  p.height = times * data.size(2);
  p.width = times * data.size(3);
  STD_TORCH_CHECK(p.height % window.scale == 0 && p.width % window.scale == 0,
                  "svconv: expected a height and width divisible by scale");
  dilation = least_dilation(dilation, p.height, p.width);
  p.border = Border(window.border);
  p.correlation = window.correlation;
  p.scale = window.scale;
  p.cells = window.cells && p.scale > 1;
  check_frame(p.border, std::min(p.height, p.width) / p.scale, kernel_size, dilation);
  STD_TORCH_CHECK(dilation == 1 || (p.scale == 1 && p.border != Border::reflect && p.border != Border::replicate),
                  "svconv: expected a dilation of 1 with a scale, mirrored or repeated borders");
  p.groups = groups;
  p.kernel = kernel_size;
  p.dilation = dilation;
  p.normalize = normalize;
  p.renormalize = renormalize;
  check_weights_shape(p, logits, groups * kernel_size * kernel_size, data.scalar_type(), data, "logits");
  p.data = view(data);
  p.logits = view(logits);
  return p;
}

inline ScalarType lse_type(const Tensor& data) {
  return data.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// An uninitialised tensor in the type and layout of `like`, but `height` x `width`.
template <class Device>
Tensor empty_of_size(const Device& device, const Tensor& like, int64_t height, int64_t width) {
  if (like.size(2) == height && like.size(3) == width) return device.empty_like(like);
  const int64_t n = like.size(0), c = like.size(1);
  if (like.stride(1) != 1 || c == 1) return torch::stable::new_empty(like, {n, c, height, width});
  const Tensor channels_last = torch::stable::new_empty(like, {n, height, width, c});
  return torch::stable::transpose(torch::stable::transpose(channels_last, 1, 3), 2, 3);
}

// An empty log-sum-exp for forward to fill: (N, groups, H, W), or as cells; nothing without softmax.
inline Tensor new_lse(Problem& p, const Tensor& data) {
  if (!p.normalize) return torch::stable::new_empty(data, {0}, lse_type(data));
  const int64_t s = coarseness(p);
  Tensor lse = torch::stable::new_empty(data, {p.batch, s * s * p.groups, p.height / s, p.width / s}, lse_type(data));
  p.lse = lse.data_ptr();
  return lse;
}

// The saved log-sum-exp, contiguous.
inline Tensor lse_of(Problem& p, const Tensor& data, const Tensor& lse) {
  if (!p.normalize) return lse;
  check_weights_shape(p, lse, p.groups, lse_type(data), data, "lse");
  Tensor dense = torch::stable::contiguous(lse);
  p.lse = dense.data_ptr();
  return dense;
}

}  // namespace svconv

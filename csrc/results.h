// Results of the CPU's products as torch's tensors. A large one gets memory of an earlier one that was freed
// (cpu/pages.cpp), all others torch's.
#pragma once

#include "cpu/kernels.h"
#include "shared.h"

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>

// From torch 2.11 on; null in 2.10, whose results are all torch's own memory.
extern "C" __attribute__((weak)) AOTITorchError torch_from_blob(
    void* data, int64_t ndim, const int64_t* sizes, const int64_t* strides, int64_t storage_offset, int32_t dtype,
    int32_t device_type, int32_t device_index, AtenTensorHandle* result, int32_t layout, const uint8_t* metadata,
    int64_t metadata_size, void (*deleter)(void* data, void* bytes), void* bytes);

namespace svconv {

// Faults in fresh memory by all threads.
inline void populate(char* data, int64_t bytes) {
  constexpr int64_t part = int64_t(2) << 20;
  torch::stable::parallel_for(0, divide_up(bytes, part), 1, [&](int64_t begin, int64_t end) {
    cpu::populate_pages(data + begin * part, std::min(end * part, bytes) - begin * part);
  });
}

// A tensor of the shape, strides and type of `like`, a dense one, in kept memory. Without that, `like` itself.
inline torch::stable::Tensor in_kept_memory(torch::stable::Tensor like, int64_t bytes) {
  const cpu::Pages pages = torch_from_blob ? cpu::take_pages(bytes) : cpu::Pages{};
  if (!pages.data) return like;
  const auto give_back = [](void* data, void* size) {
    cpu::give_pages({data, reinterpret_cast<size_t>(size), false});
  };
  int32_t dtype = 0;
  AtenTensorHandle made = nullptr;
  const auto sizes = like.sizes(), strides = like.strides();
  if (aoti_torch_get_dtype(like.get(), &dtype) != AOTI_TORCH_SUCCESS ||
      torch_from_blob(pages.data, like.dim(), sizes.data(), strides.data(), 0, dtype, aoti_torch_device_type_cpu(), -1,
                      &made, aoti_torch_layout_strided(), nullptr, 0, give_back,
                      reinterpret_cast<void*>(pages.bytes)) != AOTI_TORCH_SUCCESS) {
    cpu::give_pages(pages);
    return like;
  }
  if (pages.fresh) populate(static_cast<char*>(pages.data), bytes);
  return torch::stable::Tensor(made);
}

// An uninitialised tensor of the shape, type and layout of `t`.
inline torch::stable::Tensor new_result(const torch::stable::Tensor& t) {
  constexpr int64_t large = int64_t(4) << 20;
  torch::stable::Tensor result = torch::stable::empty_like(t);
  const int64_t bytes = result.numel() * result.element_size();
  return bytes < large ? result : in_kept_memory(result, bytes);
}

}  // namespace svconv

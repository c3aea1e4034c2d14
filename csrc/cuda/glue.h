// A GPU as the operators see it (products.h). Nothing here synchronises or allocates beyond the results and the
// log-sum-exp, so calls can be captured in a CUDA graph.
#pragma once

#include "../products.h"
#include "kernels.h"

#include <torch/csrc/stable/accelerator.h>

#include <cuda_runtime_api.h>

// Absent from a CPU build of torch, where the libraries must load all the same.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace svconv::cuda {

inline void check(int error) {
  STD_TORCH_CHECK(error == cudaSuccess, "svconv: CUDA error: ", cudaGetErrorString(cudaError_t(error)));
}

using Choice = Launch(Product, const Problem&, const Device&, bool tf32);

template <Choice* kChoose>
class OnGpu {
 public:
  static constexpr bool kNeedsLse = true, kAnyWindow = false;

  explicit OnGpu(const Tensor& data) : index_(data.get_device_index()), guard_(index_) {}

  Tensor empty_like(const Tensor& t) const { return torch::stable::empty_like(t); }

  // Queues the product on the device's current stream.
  void run(Product product, const Problem& p, bool tf32) const {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream, "svconv: this build of torch has no CUDA");
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream) == AOTI_TORCH_SUCCESS,
                    "svconv: no current CUDA stream");
    Device limits;
    check(cudaDeviceGetAttribute(&limits.processors, cudaDevAttrMultiProcessorCount, index_));
    check(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index_));
    check(cuda::run(product, p, kChoose(product, p, limits, tf32), stream));
  }

 private:
  const int index_;
  const torch::stable::accelerator::DeviceGuard guard_;
};

}  // namespace svconv::cuda

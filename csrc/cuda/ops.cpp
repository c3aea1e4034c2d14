// The operators' CUDA implementation on torch's stable ABI; their schemas are in ../ops.cpp. Nothing here synchronises
// or allocates beyond the results and the log-sum-exp, so calls can be captured in a CUDA graph.
#include "../tensors.h"
#include "kernels.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <cuda_runtime_api.h>

#include <atomic>
#include <optional>
#include <tuple>

// Absent from a CPU build of torch, where this library must load all the same.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);

namespace {

using namespace svconv;

void check(int error) {
  STD_TORCH_CHECK(error == cudaSuccess, "svconv: CUDA error: ", cudaGetErrorString(cudaError_t(error)));
}

// In place of the table's choice, while the launches are measured.
std::optional<cuda::Launch> forced_launch;

// Whether float32 may be rounded to tf32; null where there is no Python to ask (svconv/precision.py).
std::atomic<int (*)()> question{nullptr};

bool asks_for_tf32() {
  int (*const ask)() = question;
  return ask && ask();
}

// Queues the product on the current stream of the tensor's device, which must be the current device.
void run(Product product, const Problem& p, const Tensor& data) {
  const int device = data.get_device_index();
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream, "svconv: this build of torch has no CUDA");
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                  "svconv: no current CUDA stream");
  cuda::Device limits;
  check(cudaDeviceGetAttribute(&limits.processors, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const cuda::Launch launch =
      forced_launch ? *forced_launch
                    : cuda::choose(product, p, limits, p.type == Type::float32 && asks_for_tf32());
  check(cuda::run(product, p, launch, stream));
}

std::tuple<Tensor, Tensor> forward(Tensor input, Tensor logits, int64_t kernel_size, int64_t dilation, int64_t groups,
                                   bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  Tensor out = torch::stable::empty_like(input);
  Tensor lse = new_lse(p, input);
  p.result = view(out);
  run(Product::forward, p, input);
  return {out, lse};
}

void forward_into(Tensor input, Tensor logits, Tensor out, int64_t kernel_size, int64_t dilation, int64_t groups,
                  bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  check_shape(out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "out");
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor lse = new_lse(p, input);
  p.result = view(out);
  run(Product::forward, p, input);
}

Tensor grad_input(Tensor grad_out, Tensor logits, Tensor lse, int64_t kernel_size, int64_t dilation, int64_t groups,
                  bool normalize, bool renormalize) {
  Problem p = problem_of(grad_out, logits, kernel_size, dilation, groups, normalize, renormalize);
  const torch::stable::accelerator::DeviceGuard guard(grad_out.get_device_index());
  const Tensor saved = lse_of(p, grad_out, lse);
  Tensor result = torch::stable::empty_like(grad_out);
  p.result = view(result);
  run(Product::grad_input, p, grad_out);
  return result;
}

Tensor grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse, int64_t kernel_size, int64_t dilation,
                   int64_t groups, bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  check_shape(grad_out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "grad_out");
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  const Tensor saved = lse_of(p, input, lse);
  Tensor result = torch::stable::empty_like(logits);
  p.grad = view(grad_out);
  p.result = view(result);
  run(Product::grad_weight, p, input);
  return result;
}

}  // namespace

// For benchmarks/tune.py: all products of this process run by this launch (path, columns, rows, splits, stages), or
// again by the table's with null. Its path must be one that computes the problem.
extern "C" __attribute__((visibility("default"))) void svconv_force_launch(const int* launch) {
  forced_launch.reset();
  if (launch) forced_launch = cuda::Launch{cuda::Launch::Path(launch[0]), launch[1], launch[2], launch[3], launch[4]};
}

// For svconv/precision.py.
extern "C" __attribute__((visibility("default"))) void svconv_ask_for_tf32(int (*ask)()) { question = ask; }

// For tests: the answer that a product gets.
extern "C" __attribute__((visibility("default"))) int svconv_asks_for_tf32() { return asks_for_tf32(); }

STABLE_TORCH_LIBRARY_IMPL(svconv, CUDA, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("forward_into", TORCH_BOX(&forward_into));
  m.impl("grad_input", TORCH_BOX(&grad_input));
  m.impl("grad_weight", TORCH_BOX(&grad_weight));
}

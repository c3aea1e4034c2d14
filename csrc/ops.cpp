// The operators' schemas and their CPU implementation on torch's stable ABI. The CUDA one is in cuda/ops.cpp.
#include "cpu/kernels.h"
#include "tensors.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

namespace {

using namespace svconv;

// Uninitialised, as `t` in shape, type and layout. The pages of a large result are faulted in by all threads.
Tensor result_like(const Tensor& t) {
  Tensor result = torch::stable::empty_like(t);
  char* data = static_cast<char*>(result.data_ptr());
  const int64_t bytes = result.numel() * result.element_size(), part = int64_t(2) << 20;
  if (bytes >= 2 * part) {
    svconv::cpu::advise_huge_pages(data, bytes);
    torch::stable::parallel_for(0, (bytes + part - 1) / part, 1, [&](int64_t begin, int64_t end) {
      svconv::cpu::populate_pages(data + begin * part, std::min(end * part, bytes) - begin * part);
    });
  }
  return result;
}

void run(Product product, Problem& p) {
  const int64_t threads = svconv::cpu::threads_for(p, torch::stable::get_num_threads());
  const int64_t items = svconv::cpu::plan(product, p, threads);
  if (threads == 1) return svconv::cpu::run(product, p, 0, items);
  torch::stable::parallel_for(0, items, (items + threads - 1) / threads, [&](int64_t begin, int64_t end) {
    svconv::cpu::run(product, p, begin, end);
  });
}

std::tuple<Tensor, Tensor> forward(Tensor input, Tensor logits, int64_t kernel_size, int64_t dilation, int64_t groups,
                                   bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  Tensor out = result_like(input);
  Tensor lse = new_lse(p, input);
  p.result = view(out);
  run(Product::forward, p);
  return {out, lse};
}

void forward_into(Tensor input, Tensor logits, Tensor out, int64_t kernel_size, int64_t dilation, int64_t groups,
                  bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  check_shape(out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "out");
  const Tensor lse = new_lse(p, input);
  p.result = view(out);
  run(Product::forward, p);
}

Tensor grad_input(Tensor grad_out, Tensor logits, Tensor lse, int64_t kernel_size, int64_t dilation, int64_t groups,
                  bool normalize, bool renormalize) {
  Problem p = problem_of(grad_out, logits, kernel_size, dilation, groups, normalize, renormalize);
  const Tensor saved = lse_of(p, grad_out, lse);
  Tensor result = result_like(grad_out);
  p.result = view(result);
  run(Product::grad_input, p);
  return result;
}

Tensor grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse, int64_t kernel_size, int64_t dilation,
                   int64_t groups, bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  check_shape(grad_out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "grad_out");
  const Tensor saved = lse_of(p, input, lse);
  Tensor result = result_like(logits);
  p.grad = view(grad_out);
  p.result = view(result);
  run(Product::grad_weight, p);
  return result;
}

}  // namespace

// Each product takes logits, and the saved log-sum-exp where it needs the softmax again; with normalize = false
// the logits are the weights and the three are plain bilinear products. forward_into is forward for inference, into
// memory that is there.
STABLE_TORCH_LIBRARY(svconv, m) {
  m.def("forward(Tensor input, Tensor logits, int kernel_size, int dilation, int groups, bool normalize, "
        "bool renormalize) -> (Tensor out, Tensor lse)");
  m.def("forward_into(Tensor input, Tensor logits, Tensor(a!) out, int kernel_size, int dilation, int groups, "
        "bool normalize, bool renormalize) -> ()");
  m.def("grad_input(Tensor grad_out, Tensor logits, Tensor lse, int kernel_size, int dilation, int groups, "
        "bool normalize, bool renormalize) -> Tensor");
  m.def("grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse, int kernel_size, int dilation, "
        "int groups, bool normalize, bool renormalize) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(svconv, CPU, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("forward_into", TORCH_BOX(&forward_into));
  m.impl("grad_input", TORCH_BOX(&grad_input));
  m.impl("grad_weight", TORCH_BOX(&grad_weight));
}

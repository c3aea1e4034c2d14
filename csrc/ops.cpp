// The operators' schemas and their CPU implementation on torch's stable ABI. Arguments are validated in Python
// (svconv/functional.py), where errors can name the mend; the checks here are the backstop.
#include "cpu/kernels.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <tuple>

namespace {

using svconv::cpu::Problem;
using svconv::cpu::Product;
using svconv::cpu::Type;
using svconv::cpu::View;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Type type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Type::float32;
    case ScalarType::Double: return Type::float64;
    case ScalarType::Half: return Type::float16;
    case ScalarType::BFloat16: return Type::bfloat16;
    default: STD_TORCH_CHECK(false, "svconv: expected a floating point tensor of 16, 32 or 64 bits");
  }
}

View view(const Tensor& t) {
  return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2), t.stride(3)};
}

void check_shape(const Tensor& t, int64_t n, int64_t c, int64_t h, int64_t w, ScalarType type, const char* name) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == n && t.size(1) == c && t.size(2) == h && t.size(3) == w,
                  "svconv: expected ", name, " of shape (", n, ", ", c, ", ", h, ", ", w, ")");
  STD_TORCH_CHECK(t.scalar_type() == type && t.is_cpu(), "svconv: expected ", name, " of the type and device of data");
}

Problem problem_of(const Tensor& data, const Tensor& logits, int64_t kernel_size, int64_t dilation, int64_t groups,
                   bool normalize, bool renormalize) {
  STD_TORCH_CHECK(data.dim() == 4 && data.is_cpu(), "svconv: expected a 4-d CPU tensor");
  STD_TORCH_CHECK(kernel_size > 0 && kernel_size % 2 == 1 && dilation > 0 && groups > 0,
                  "svconv: expected an odd kernel_size, and a positive dilation and groups");
  STD_TORCH_CHECK(data.size(1) % groups == 0, "svconv: expected channels divisible by groups");
  Problem p;
  p.type = type_of(data);
  p.batch = data.size(0);
  p.channels = data.size(1);
  p.height = data.size(2);
  p.width = data.size(3);
  p.groups = groups;
  p.kernel = kernel_size;
  p.dilation = dilation;
  p.normalize = normalize;
  p.renormalize = renormalize;
  check_shape(logits, p.batch, groups * kernel_size * kernel_size, p.height, p.width, data.scalar_type(), "logits");
  p.data = view(data);
  p.logits = view(logits);
  return p;
}

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

ScalarType lse_type(const Tensor& data) {
  return data.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// The saved log-sum-exp, contiguous (N, groups, H, W).
Tensor lse_of(Problem& p, const Tensor& data, const Tensor& lse) {
  if (!p.normalize) return lse;
  check_shape(lse, p.batch, p.groups, p.height, p.width, lse_type(data), "lse");
  Tensor dense = torch::stable::contiguous(lse);
  p.lse = dense.data_ptr();
  return dense;
}

void run(Product product, Problem& p) {
  const int64_t items = svconv::cpu::plan(product, p, torch::stable::get_num_threads());
  if (items == 0) return;
  torch::stable::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    svconv::cpu::run(product, p, begin, end);
  });
}

std::tuple<Tensor, Tensor> forward(Tensor input, Tensor logits, int64_t kernel_size, int64_t dilation, int64_t groups,
                                   bool normalize, bool renormalize) {
  Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize);
  Tensor out = result_like(input);
  Tensor lse = normalize
                   ? torch::stable::new_empty(input, {p.batch, groups, p.height, p.width}, lse_type(input))
                   : torch::stable::new_empty(input, {0}, lse_type(input));
  p.result = view(out);
  if (normalize) p.lse = lse.data_ptr();
  run(Product::forward, p);
  return {out, lse};
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
  check_shape(grad_out, p.batch, p.channels, p.height, p.width, input.scalar_type(), "grad_out");
  const Tensor saved = lse_of(p, input, lse);
  Tensor result = result_like(logits);
  p.grad = view(grad_out);
  p.result = view(result);
  run(Product::grad_weight, p);
  return result;
}

}  // namespace

// Each product takes logits, and the saved log-sum-exp where it needs the softmax again; with normalize = false
// the logits are the weights and the three are plain bilinear products.
STABLE_TORCH_LIBRARY(svconv, m) {
  m.def("forward(Tensor input, Tensor logits, int kernel_size, int dilation, int groups, bool normalize, "
        "bool renormalize) -> (Tensor out, Tensor lse)");
  m.def("grad_input(Tensor grad_out, Tensor logits, Tensor lse, int kernel_size, int dilation, int groups, "
        "bool normalize, bool renormalize) -> Tensor");
  m.def("grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse, int kernel_size, int dilation, "
        "int groups, bool normalize, bool renormalize) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(svconv, CPU, m) {
  m.impl("forward", TORCH_BOX(&forward));
  m.impl("grad_input", TORCH_BOX(&grad_input));
  m.impl("grad_weight", TORCH_BOX(&grad_weight));
}

// The operators on torch's tensors, once for all devices: a Problem is made from the tensors and checked, the results
// get their memory, and the device computes. Built on torch's stable ABI.
#pragma once

#include "tensors.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

namespace svconv {

// The schemas. Each product takes logits, and the saved log-sum-exp where it needs the softmax again; with normalize =
// false the logits are the weights and the three are plain bilinear products. forward_into is forward for inference,
// into memory that is there. tf32: float32 may be rounded to tf32 before it is multiplied. The last four are
// those of Problem.
#define SVCONV_OPTIONS                                                                                 \
  "int kernel_size, int dilation, int groups, bool normalize, bool renormalize, bool tf32=False, int border=0, " \
  "bool correlation=False, int scale=1, bool cells=False"

template <class Library>
void define_operators(Library& m) {
  m.def("forward(Tensor input, Tensor logits, " SVCONV_OPTIONS ") -> (Tensor out, Tensor lse)");
  m.def("forward_into(Tensor input, Tensor logits, Tensor(a!) out, " SVCONV_OPTIONS ") -> ()");
  m.def("grad_input(Tensor grad_out, Tensor logits, Tensor lse, " SVCONV_OPTIONS ") -> Tensor");
  m.def("grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse, " SVCONV_OPTIONS ") -> Tensor");
}

// The operators on one type of device. `Device` has
//   explicit Device(const Tensor&)               the tensor's device becomes the current one while the object lives
//   Tensor empty_like(const Tensor&)             an uninitialised tensor of this shape, type and layout
//   void run(Product, const Problem&, bool tf32)  computes the product
//   kNeedsLse                                    forward writes the log-sum-exp even where nobody reads it
//   kAnyWindow                                   it reads windows that aren't plain
template <class Device>
struct Operators {
  static void run(const Device& device, Product product, const Problem& p, bool tf32) {
    STD_TORCH_CHECK(Device::kAnyWindow || p.plain(), "svconv: expected a window that is plain on this device");
    device.run(product, p, tf32);
  }

  static std::tuple<Tensor, Tensor> forward(Tensor input, Tensor logits,
      int64_t kernel_size, int64_t dilation, int64_t groups, bool normalize, bool renormalize, bool tf32,
      int64_t border, bool correlation, int64_t scale, bool cells) {
    Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize,
                           {border, correlation, scale, cells});
    Device device(input);
    Tensor out = empty_of_size(device, input, p.height, p.width);
    Tensor lse = new_lse(p, input);
    p.result = view(out);
    run(device, Product::forward, p, tf32);
    return {out, lse};
  }

  static void forward_into(Tensor input, Tensor logits, Tensor out,
      int64_t kernel_size, int64_t dilation, int64_t groups, bool normalize, bool renormalize, bool tf32,
      int64_t border, bool correlation, int64_t scale, bool cells) {
    Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize,
                           {border, correlation, scale, cells});
    check_shape(out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "out");
    check_own_memory(out, input, logits);
    Device device(input);
    std::optional<Tensor> lse;
    if constexpr (Device::kNeedsLse) lse = new_lse(p, input);
    p.result = view(out);
    run(device, Product::forward, p, tf32);
  }

  static Tensor grad_input(Tensor grad_out, Tensor logits, Tensor lse,
      int64_t kernel_size, int64_t dilation, int64_t groups, bool normalize, bool renormalize, bool tf32,
      int64_t border, bool correlation, int64_t scale, bool cells) {
    Problem p = problem_of(grad_out, logits, kernel_size, dilation, groups, normalize, renormalize,
                           {border, correlation, scale, cells}, true);
    Device device(grad_out);
    const Tensor saved = lse_of(p, grad_out, lse);
    Tensor result = empty_of_size(device, grad_out, p.height / scale, p.width / scale);
    p.result = view(result);
    run(device, Product::grad_input, p, tf32);
    return result;
  }

  static Tensor grad_weight(Tensor grad_out, Tensor input, Tensor logits, Tensor lse,
      int64_t kernel_size, int64_t dilation, int64_t groups, bool normalize, bool renormalize, bool tf32,
      int64_t border, bool correlation, int64_t scale, bool cells) {
    Problem p = problem_of(input, logits, kernel_size, dilation, groups, normalize, renormalize,
                           {border, correlation, scale, cells});
    check_shape(grad_out, p.batch, p.channels, p.height, p.width, input.scalar_type(), input, "grad_out");
    Device device(input);
    const Tensor saved = lse_of(p, input, lse);
    Tensor result = device.empty_like(logits);
    p.grad = view(grad_out);
    p.result = view(result);
    run(device, Product::grad_weight, p, tf32);
    return result;
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("forward", TORCH_BOX(&Operators::forward));
    m.impl("forward_into", TORCH_BOX(&Operators::forward_into));
    m.impl("grad_input", TORCH_BOX(&Operators::grad_input));
    m.impl("grad_weight", TORCH_BOX(&Operators::grad_weight));
  }
};

}  // namespace svconv

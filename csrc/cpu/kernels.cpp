// The three products on one instruction set. This file is compiled once per set, into namespace SVCONV_ISA.
#include "narrow_forward.h"
#include "narrow_gradients.h"
#include "weight_gradient.h"
#include "weighted_sum.h"
#include "windowed_gradient.h"

#include <stdexcept>
#include <string>

namespace svconv::cpu::SVCONV_ISA {
namespace {

template <class T>
void run_item(Product product, const Problem& p, const Item& item) {
  const bool plain = p.plain(), narrow = is_narrow(p);
  switch (product) {
    case Product::forward:
      return plain ? weighted_sum<T>(p, item, false) : narrow ? narrow_forward<T>(p, item) : window_forward<T>(p, item);
    case Product::grad_input:
      return plain    ? weighted_sum<T>(p, item, true)
             : narrow ? narrow_grad_input<T>(p, item)
                      : window_grad_input<T>(p, item);
    case Product::grad_weight:
      return plain    ? grad_weight<T>(p, item)
             : narrow ? narrow_grad_weight<T>(p, item)
                      : window_grad_weight<T>(p, item);
  }
}

template <class T>
void run_items(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  const Problem frame = frame_of(product, p);
  for (int64_t index = begin; index < end; ++index) {
    Item item;
    if (item_at(frame, plan, index, item)) run_item<T>(product, p, item);
  }
}

}  // namespace

void run(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  switch (p.type) {
    case Type::float32: return run_items<float>(product, p, plan, begin, end);
    case Type::float64: return run_items<double>(product, p, plan, begin, end);
    case Type::float16: return run_items<half>(product, p, plan, begin, end);
    case Type::bfloat16: return run_items<bfloat16>(product, p, plan, begin, end);
  }
  throw std::invalid_argument("svconv::cpu::run: expected a Problem of float32, float64, float16 or bfloat16, got type "
                              "number " + std::to_string(int(p.type)));
}

}  // namespace svconv::cpu::SVCONV_ISA

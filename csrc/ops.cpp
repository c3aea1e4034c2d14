// The operators' schemas and their CPU implementation. The CUDA one is in cuda/ops.cpp.
#include "cpu/kernels.h"
#include "products.h"
#include "results.h"

namespace {

using namespace svconv;

class OnCpu {
 public:
  static constexpr bool kNeedsLse = false, kAnyWindow = true;

  explicit OnCpu(const Tensor&) {}

  Tensor empty_like(const Tensor& t) const { return new_result(t); }

  // Products are exact here, whether or not tf32 would do.
  void run(Product product, const Problem& p, bool) const {
    const int64_t threads = cpu::threads_for(p, torch::stable::get_num_threads());
    const cpu::Plan plan = cpu::plan(product, p, threads);
    if (threads == 1) return cpu::run(product, p, plan, 0, plan.items);
    torch::stable::parallel_for(0, plan.items, divide_up(plan.items, threads), [&](int64_t begin, int64_t end) {
      cpu::run(product, p, plan, begin, end);
    });
  }
};

}  // namespace

STABLE_TORCH_LIBRARY(svconv, m) { define_operators(m); }

STABLE_TORCH_LIBRARY_IMPL(svconv, CPU, m) { Operators<OnCpu>::implement(m); }

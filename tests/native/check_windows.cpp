// The three products on windows that aren't plain, on arrays of exactly their sizes: for the sanitizers. That results
// are right is for tests/svconv to say; here each must be a number. Exit status 1 if one is not.
#include "kernels.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

using svconv::Border;
using svconv::cpu::Problem;
using svconv::cpu::Product;
using svconv::cpu::View;

namespace {

// (N, channels, height, width) in either layout.
struct Array {
  std::vector<float> data;
  View view;
  Array(int64_t n, int64_t channels, int64_t height, int64_t width, bool last)
      : data(n * channels * height * width), view{data.data(), channels * height * width, last ? 1 : height * width,
                                                  last ? width * channels : width, last ? channels : 1} {
    for (float& x : data) x = float(std::rand()) / float(RAND_MAX);
  }
  bool finite() const {
    for (float x : data)
      if (!std::isfinite(x)) return false;
    return true;
  }
};

bool run(Problem p, int64_t height, int64_t width, bool last) {
  const int64_t taps = p.groups * p.kernel * p.kernel;
  p.height = p.scale * height, p.width = p.scale * width;
  Array input(p.batch, p.channels, height, width, last), grad_input(p.batch, p.channels, height, width, last);
  Array out(p.batch, p.channels, p.height, p.width, last), grad(p.batch, p.channels, p.height, p.width, last);
  const int64_t coarse = p.cells ? p.scale : 1, channels = coarse * coarse * taps;
  Array logits(p.batch, channels, p.height / coarse, p.width / coarse, last);
  Array grad_logits(p.batch, channels, p.height / coarse, p.width / coarse, last);
  std::vector<float> lse(p.batch * p.groups * p.height * p.width);
  p.logits = logits.view, p.grad = grad.view, p.lse = lse.data();
  const auto product = [&](Product which, View data, View result) {
    p.data = data, p.result = result;
    const svconv::cpu::Plan plan = svconv::cpu::plan(which, p, 2);
    svconv::cpu::run(which, p, plan, 0, plan.items);
  };
  product(Product::forward, input.view, out.view);
  product(Product::grad_input, grad.view, grad_input.view);
  product(Product::grad_weight, input.view, grad_logits.view);
  return out.finite() && grad_input.finite() && grad_logits.finite();
}

}  // namespace

int main() {
  for (Border border : {Border::zeros, Border::shift, Border::reflect, Border::replicate})
    for (int64_t kernel : {1, 3, 7})
      for (int64_t channels : {2, 38})
        for (int64_t scale : {1, 2, 5})
          for (int options = 0; options < (scale > 1 ? 16 : 8); ++options) {
            Problem p;
            p.batch = 2, p.channels = channels, p.groups = options & 1 ? 2 : 1, p.kernel = kernel, p.scale = scale;
            p.border = border, p.correlation = options & 2, p.renormalize = border == Border::zeros;
            p.cells = options & 8;
            if (scale == 1 && border == Border::shift) p.dilation = 2;
            // Frames of a window's size, and wider than a vector.
            for (int64_t width : {p.dilation * kernel, int64_t(61)})
              if (!run(p, p.dilation * kernel + 1, width, options & 4)) {
                std::printf("border %d, kernel %d, %d channels, scale %d, options %d: not a number\n", int(border),
                            int(kernel), int(channels), int(scale), options);
                return 1;
              }
          }
}

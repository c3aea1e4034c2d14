// The CPU library on a problem of a type that it doesn't know. Prints the error; exit status 1 if there is none.
#include "kernels.h"

#include <cstdio>
#include <exception>
#include <vector>

int main() {
  using namespace svconv::cpu;
  std::vector<double> memory(64, 0.0);
  Problem p;
  p.type = Type(4);
  p.batch = p.channels = p.height = p.width = 1;
  p.data = p.grad = p.logits = p.result = {memory.data(), 1, 1, 1, 1};
  p.lse = memory.data();
  for (Product product : {Product::forward, Product::grad_input, Product::grad_weight}) {
    try {
      const Plan cut = plan(product, p, 1);
      run(product, p, cut, 0, cut.items);
      return 1;
    } catch (const std::exception& error) {
      std::puts(error.what());
    }
  }
}

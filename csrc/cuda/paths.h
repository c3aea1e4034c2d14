// The ways to compute a product, one function each; kernels.h says which there are, launch.cpp calls them.
#pragma once

#include "device.h"
#include "kernels.h"

#include <type_traits>

namespace svconv::cuda {

int run_generic(Product product, const Problem& p, cudaStream_t stream);

int run_fma_sum(bool reversed, const Problem& p, const Launch& launch, cudaStream_t stream);
int run_fma_gradient(const Problem& p, const Launch& launch, cudaStream_t stream);

// T is half_t, bfloat16_t, or float, which is rounded to tf32.
template <class T>
int run_band_sum(bool reversed, const Problem& p, const Launch& launch, cudaStream_t stream);
template <class T>
int run_band_gradient(const Problem& p, const Launch& launch, cudaStream_t stream);

// Dynamic shared memory of a block.
int64_t fma_sum_bytes(int64_t K, const Launch& launch);
int64_t fma_gradient_bytes(int64_t K, const Launch& launch);
template <class T>
int64_t band_sum_bytes(int64_t K, const Launch& launch);
template <class T>
int64_t band_gradient_bytes(int64_t K, const Launch& launch);

// The exact kernels of float32 keep up with memory at K = 3: nothing to gain by rounding (docs/cuda.md).
template <class T>
constexpr int kSmallestBand = sizeof(T) == 4 ? 5 : 3;

// The kernel runs with K as a constant: f(integral_constant) for K = 3, 5, 7, 9, from kSmallest on.
template <int kSmallest, class F>
int with_kernel_size(int64_t K, const F& f) {
  switch (K) {
    case 3:
      if constexpr (kSmallest <= 3) return f(std::integral_constant<int, 3>());
      else return cudaErrorInvalidValue;
    case 5: return f(std::integral_constant<int, 5>());
    case 7: return f(std::integral_constant<int, 7>());
    case 9: return f(std::integral_constant<int, 9>());
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace svconv::cuda

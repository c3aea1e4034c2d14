// The ways to compute a product, one function each; kernels.h says which there are, launch.cu calls them.
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

// The kernel sizes of the tensor-core kernels. The exact kernels of float32 keep up with memory at K = 3, where there
// is nothing to gain by rounding.
template <class T>
constexpr int kSmallestBand = sizeof(T) == 4 ? 5 : 3;
template <class T>
constexpr int kLargestBand = sizeof(T) == 4 ? 9 : 13;

// Rows of pixels of a warp, and most threads of a block, as registers allow.
constexpr int kRows = 4;
__host__ __device__ constexpr int gradient_rows(int64_t K) { return K <= 9 ? kRows : 2; }
constexpr int sum_threads(int element_bytes, int64_t K) { return element_bytes == 4 || K > 9 ? 256 : 512; }
constexpr int kGradientThreads = 256;

// The kernel runs with K as a constant: f(integral_constant) for odd K from kFirst to kLast.
template <int kFirst, int kLast, class F>
int with_kernel_size(int64_t K, const F& f) {
  if (K == kFirst) return f(std::integral_constant<int, kFirst>());
  if constexpr (kFirst < kLast) return with_kernel_size<kFirst + 2, kLast>(K, f);
  else return cudaErrorInvalidValue;
}

}  // namespace svconv::cuda

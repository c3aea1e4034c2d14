// grad_weight in bfloat16, and the shared memory of both types.
#include "band_gradient.h"

int64_t svconv::cuda::band_gradient_bytes(int64_t K, const Launch& launch) {
  const GradientMemory memory(int(K), launch.rows * kRows, launch.columns * kPixels);
  return memory.total(launch.stages, launch.splits) * int64_t(sizeof(bfloat16_t));
}

template int svconv::cuda::run_band_gradient<svconv::cuda::bfloat16_t>(const Problem&, const Launch&, cudaStream_t);

// forward and grad_input in bfloat16, and the shared memory of both types.
#include "band_sum.h"

int64_t svconv::cuda::band_sum_bytes(int64_t K, const Launch& launch) {
  const SumMemory memory(int(K), launch.rows * kRows, launch.columns * kPixels);
  return memory.total(launch.stages) * int64_t(sizeof(bfloat16_t));
}

template int svconv::cuda::run_band_sum<svconv::cuda::bfloat16_t>(bool, const Problem&, const Launch&, cudaStream_t);

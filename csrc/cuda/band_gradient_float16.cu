// grad_weight in float16.
#include "band_gradient.h"

template int svconv::cuda::run_band_gradient<svconv::cuda::half_t>(const Problem&, const Launch&, cudaStream_t);

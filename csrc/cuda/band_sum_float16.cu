// forward and grad_input in float16.
#include "band_sum.h"

template int svconv::cuda::run_band_sum<svconv::cuda::half_t>(bool, const Problem&, const Launch&, cudaStream_t);

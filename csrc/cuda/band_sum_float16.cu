// forward and grad_input in float16.
#include "band_sum.h"

namespace svconv::cuda {

template int run_band_sum<half_t>(bool, const Problem&, const Launch&, cudaStream_t);
template int64_t band_sum_bytes<half_t>(int64_t, const Launch&);

}  // namespace svconv::cuda

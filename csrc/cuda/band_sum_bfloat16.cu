// forward and grad_input in bfloat16.
#include "band_sum.h"

namespace svconv::cuda {

template int run_band_sum<bfloat16_t>(bool, const Problem&, const Launch&, cudaStream_t);
template int64_t band_sum_bytes<bfloat16_t>(int64_t, const Launch&);

}  // namespace svconv::cuda

// forward and grad_input of float32 rounded to tf32.
#include "band_sum.h"

namespace svconv::cuda {

template int run_band_sum<float>(bool, const Problem&, const Launch&, cudaStream_t);
template int64_t band_sum_bytes<float>(int64_t, const Launch&);

}  // namespace svconv::cuda

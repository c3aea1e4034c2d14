// grad_weight in bfloat16.
#include "band_gradient.h"

namespace svconv::cuda {

template int run_band_gradient<bfloat16_t>(const Problem&, const Launch&, cudaStream_t);
template int64_t band_gradient_bytes<bfloat16_t>(int64_t, const Launch&);

}  // namespace svconv::cuda

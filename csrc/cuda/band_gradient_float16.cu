// grad_weight in float16.
#include "band_gradient.h"

namespace svconv::cuda {

template int run_band_gradient<half_t>(const Problem&, const Launch&, cudaStream_t);
template int64_t band_gradient_bytes<half_t>(int64_t, const Launch&);

}  // namespace svconv::cuda

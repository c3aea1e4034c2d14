// grad_weight of float32 rounded to tf32.
#include "band_gradient.h"

namespace svconv::cuda {

template int run_band_gradient<float>(const Problem&, const Launch&, cudaStream_t);
template int64_t band_gradient_bytes<float>(int64_t, const Launch&);

}  // namespace svconv::cuda

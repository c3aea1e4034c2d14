// The operators' CUDA implementation; their schemas are in ../ops.cpp.
#include "glue.h"

STABLE_TORCH_LIBRARY_IMPL(svconv, CUDA, m) {
  using namespace svconv;
  Operators<cuda::OnGpu<cuda::choose>>::implement(m);
}

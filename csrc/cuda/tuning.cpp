// The library svconv_tuning, for tests and benchmarks/tune.py alone: torch.ops.svconv_tuning has the operators on CUDA
// tensors by a launch that the caller forces, so that the launches can be measured. It is not installed.
#include "glue.h"

#include <optional>

namespace {

using namespace svconv;

std::optional<cuda::Launch> forced;
cuda::Work latest;

cuda::Launch choose(Product product, const Problem& p, const cuda::Device& device, bool tf32) {
  const cuda::Launch launch = forced ? *forced : cuda::choose(product, p, device, tf32);
  latest = cuda::work_of(product, p, launch, device);
  return launch;
}

}  // namespace

// All products of this library in this process run by this launch (path, columns, rows, splits, parts, stages), or
// by the table's with null. A path that doesn't compute a problem's type is an error of the call.
extern "C" __attribute__((visibility("default"))) void svconv_force_launch(const int* launch) {
  forced.reset();
  if (launch) forced = cuda::Launch{cuda::Launch::Path(launch[0]), launch[1], launch[2], launch[3], launch[4], launch[5]};
}

// The work of the latest product of this library in this process: bytes, exponentials, chunks.
extern "C" __attribute__((visibility("default"))) void svconv_latest_work(double* work) {
  work[0] = latest.bytes;
  work[1] = latest.exponentials;
  work[2] = latest.chunks;
}

STABLE_TORCH_LIBRARY(svconv_tuning, m) { define_operators(m); }

STABLE_TORCH_LIBRARY_IMPL(svconv_tuning, CUDA, m) { Operators<cuda::OnGpu<choose>>::implement(m); }

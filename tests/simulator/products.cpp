// The three products as functions of the server, through the kernels' boundary.
#include "kernels.h"
#include "server.h"

namespace {

using svconv::Problem;
using svconv::Product;
using svconv::View;
using svconv::cuda::Device;
using svconv::cuda::Launch;
using svconv::simulate::Buffers;
using svconv::simulate::Numbers;

// numbers: product, type, N, C, groups, H, W, K, dilation, normalize, renormalize; for each of data, grad, logits and
//   result the byte offset of its first element and four strides; then processors and shared bytes of the device to
//   choose the launch for and whether tf32 will do, or 0, 0 and the launch's path, columns, rows, splits, parts, stages.
// buffers: data, grad, logits, result, lse, and what came of it: the error, then the launch.
void run(const Numbers& numbers, const Buffers& buffers) {
  auto next = numbers.begin();
  const auto view = [&](int buffer) {
    View v;
    v.data = static_cast<char*>(buffers[buffer]) + *next++;
    v.n = *next++;
    v.c = *next++;
    v.h = *next++;
    v.w = *next++;
    return v;
  };
  const auto product = Product(*next++);
  Problem p;
  p.type = svconv::Type(*next++);
  p.batch = *next++;
  p.channels = *next++;
  p.groups = *next++;
  p.height = *next++;
  p.width = *next++;
  p.kernel = *next++;
  p.dilation = *next++;
  p.normalize = *next++;
  p.renormalize = *next++;
  p.data = view(0);
  p.grad = view(1);
  p.logits = view(2);
  p.result = view(3);
  p.lse = p.normalize ? buffers[4] : nullptr;
  Device device;
  device.processors = int(*next++);
  device.shared_bytes = int(*next++);
  Launch launch;
  if (device.processors != 0) {
    launch = svconv::cuda::choose(product, p, device, *next++);
  } else {
    launch.path = Launch::Path(*next++);
    launch.columns = int(*next++);
    launch.rows = int(*next++);
    launch.splits = int(*next++);
    launch.parts = int(*next++);
    launch.stages = int(*next++);
  }
  const int error = svconv::cuda::run(product, p, launch, nullptr);
  const int came[] = {error, int(launch.path), launch.columns, launch.rows, launch.splits, launch.parts, launch.stages};
  for (int i = 0; i < 7; ++i) static_cast<int*>(buffers[5])[i] = came[i];
}

const svconv::simulate::Function function("product", run);

}  // namespace

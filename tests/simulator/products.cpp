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

// A problem as the tests write it.
struct Reader {
  Numbers::const_iterator next;
  const Buffers& buffers;
  Product product{};
  Problem p;
  Device device;

  // Leaves `next` at what follows the device.
  Reader(const Numbers& numbers, const Buffers& all) : next(numbers.begin()), buffers(all) {
    product = Product(*next++);
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
    device.processors = int(*next++);
    device.shared_bytes = int(*next++);
  }

  Launch launch() {
    Launch launch;
    launch.path = Launch::Path(*next++);
    launch.columns = int(*next++);
    launch.rows = int(*next++);
    launch.splits = int(*next++);
    launch.parts = int(*next++);
    launch.stages = int(*next++);
    return launch;
  }

 private:
  View view(int buffer) {
    View v;
    v.data = static_cast<char*>(buffers[buffer]) + *next++;
    v.n = *next++;
    v.c = *next++;
    v.h = *next++;
    v.w = *next++;
    return v;
  }
};

// numbers: product, type, N, C, groups, H, W, K, dilation, normalize, renormalize; for each of data, grad, logits and
//   result the byte offset of its first element and four strides; then processors and shared bytes of the device to
//   choose the launch for and whether tf32 will do, or 0, 0 and the launch's path, columns, rows, splits, parts, stages.
// buffers: data, grad, logits, result, lse, and what came of it: the error, then the launch.
void run(const Numbers& numbers, const Buffers& buffers) {
  Reader read(numbers, buffers);
  const bool chosen = read.device.processors != 0;
  const Launch launch =
      chosen ? svconv::cuda::choose(read.product, read.p, read.device, *read.next) : read.launch();
  const int error = svconv::cuda::run(read.product, read.p, launch, nullptr);
  const int came[] = {error, int(launch.path), launch.columns, launch.rows, launch.splits, launch.parts, launch.stages};
  for (int i = 0; i < 7; ++i) static_cast<int*>(buffers[5])[i] = came[i];
}

// numbers: as above, with a device and a launch. buffers: as above, but for the last: bytes, exponentials and chunks.
void work(const Numbers& numbers, const Buffers& buffers) {
  Reader read(numbers, buffers);
  const svconv::cuda::Work found = svconv::cuda::work_of(read.product, read.p, read.launch(), read.device);
  const double came[] = {found.bytes, found.exponentials, found.chunks};
  for (int i = 0; i < 3; ++i) static_cast<double*>(buffers[5])[i] = came[i];
}

const svconv::simulate::Function product("product", run), counted("work", work);

}  // namespace

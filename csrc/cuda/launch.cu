// The choice which kernel computes a product and how it is cut into blocks, and the call of that kernel.
#include "paths.h"
#include "plane.h"

#include <algorithm>

namespace svconv::cuda {
namespace {

using Path = Launch::Path;

// A row of launches.csv. In forward and grad_input the grid may split the channels besides.
struct Candidate {
  Path path;
  bool gradient;
  int columns, rows, parts, stages;
};

namespace table {
constexpr Path band = Path::band, tf32 = Path::tf32, fma = Path::fma;
constexpr bool sums = false, gradient = true;
constexpr Candidate kCandidates[] = {
#include "launches.csv"
};
}  // namespace table

// The fastest kernels that there are for the problem. tf32 is taken only where it gains speed for the accuracy lost.
Path path_of(const Problem& p, bool tf32) {
  constexpr int64_t limit = 1 << 30;  // 32-bit coordinates, sums of two included
  const int64_t K = p.kernel;
  const bool fits = p.height < limit && p.width < limit && p.channels < limit && p.dilation < limit &&
                    p.batch * p.channels * p.height * p.width > 0;
  if (!fits || K < 3) return Path::generic;
  switch (p.type) {
    case Type::float16:
    case Type::bfloat16: return K <= kLargestBand<half_t> ? Path::band : Path::generic;
    case Type::float32:
      if (tf32 && K >= kSmallestBand<float> && K <= kLargestBand<float>) return Path::tf32;
      return K <= 9 ? Path::fma : Path::generic;
    case Type::float64: return Path::generic;
  }
  return Path::generic;  // which refuses a type that it doesn't know
}

// The rows of pixels that are a thread's or a warp's share.
int rows_of(Path path, bool gradient, const Problem& p) {
  if (path == Path::fma) return 1;
  return gradient ? gradient_rows(p.kernel) : kRows;
}

// True if the registers allow a block of so many warps. The fma kernels were compiled for what they have in the table.
bool fits_registers(const Candidate& c, const Problem& p) {
  const int threads = 32 * c.columns * c.rows * c.parts;
  if (c.path == Path::fma) return true;
  return threads <= (c.gradient ? kGradientThreads : sum_threads(c.path == Path::tf32 ? 4 : 2, p.kernel));
}

int64_t shared_bytes(const Candidate& c, const Problem& p, const Launch& launch) {
  if (c.path == Path::band)
    return c.gradient ? band_gradient_bytes<half_t>(p.kernel, launch) : band_sum_bytes<half_t>(p.kernel, launch);
  if (c.path == Path::tf32)
    return c.gradient ? band_gradient_bytes<float>(p.kernel, launch) : band_sum_bytes<float>(p.kernel, launch);
  return c.gradient ? fma_gradient_bytes(p.kernel, launch) : fma_sum_bytes(p.kernel, launch);
}

// Clocks for one of each kind of work.
constexpr Work kCosts = {
#include "costs.csv"
};

// The mean number of 32-byte sectors that a run of `bytes` touches, if its first byte lies `start` after the start of a
// row of tiles; where rows don't start with a sector (`aligned`), any multiple of 8 bytes is as likely.
double sectors(bool aligned, int64_t bytes, int64_t start) {
  if (!aligned) return (bytes - 8) / 32.0 + 1;
  const int64_t offset = (start % 32 + 32) % 32;
  return double(divide_up(offset + bytes, 32));
}

template <class T>
int run_band(Product product, const Problem& p, const Launch& launch, cudaStream_t stream) {
  if (product == Product::grad_weight) return run_band_gradient<T>(p, launch, stream);
  return run_band_sum<T>(product == Product::grad_input, p, launch, stream);
}

int run_fma(Product product, const Problem& p, const Launch& launch, cudaStream_t stream) {
  if (product == Product::grad_weight) return run_fma_gradient(p, launch, stream);
  return run_fma_sum(product == Product::grad_input, p, launch, stream);
}

}  // namespace

// What passes through the SM in sectors of L2, the exponentials of the weights, and the latency of one block. Shared
// memory has no conflicts that depend on the tile, and instructions are fewer than clocks (docs/cuda.md).
Work work_of(Product product, const Problem& p, const Launch& launch, const Device& device) {
  const bool gradient = product == Product::grad_weight;
  const int rows = launch.rows * rows_of(launch.path, gradient, p), columns = launch.columns * 8;
  const int halo = p.kernel <= 9 ? 4 : 8;
  const int64_t bytes = p.type == Type::float32 ? 4 : 2, window_rows = rows + p.kernel - 1;
  const int64_t chunks = divide_up(divide_up(p.channels / p.groups, 32), launch.splits);
  const bool channels_inside = p.data.c == 1 && p.channels > 1;
  const bool aligned = p.dilation == 1 && p.width * bytes % 32 == 0 && columns * bytes % 32 == 0;
  // The sectors of a row of a tile, and of its window, in one channel.
  const double own = channels_inside ? columns * bytes / 32.0 : sectors(aligned, columns * bytes, 0);
  const double read = channels_inside ? (columns + 2 * halo) * bytes / 32.0
                                      : sectors(aligned, (columns + 2 * halo) * bytes, -halo * bytes);
  const double chunk = 32 * (window_rows * read + rows * own);
  // Logits are read once, in grad_input with the rows around; gradients of them are written.
  const double taps = p.kernel * p.kernel * rows * sectors(aligned, columns * bytes, 0) * (gradient ? 2 : 1);
  const double exponentials = rows * columns * p.kernel * (gradient ? 2 * p.kernel : 8 + 2 * halo);
  const int64_t busiest = divide_up(count_tiles(p, rows, columns, launch.splits), device.processors);
  return {32 * busiest * (chunks * chunk + taps), busiest * exponentials, double(chunks) / launch.parts};
}

Launch choose(Product product, const Problem& p, const Device& device, bool tf32) {
  Launch best;
  const Path path = path_of(p, tf32);
  if (path == Path::generic) return best;
  const int64_t chunks = divide_up(p.channels / p.groups, 32);
  double least = 0;
  for (const Candidate& c : table::kCandidates) {
    if (c.path != path || c.gradient != (product == Product::grad_weight) || !fits_registers(c, p)) continue;
    const int most = c.gradient ? 1 : int(std::min<int64_t>(chunks, 8));
    for (int splits = 1; splits <= most; ++splits) {
      const Launch launch{path, c.columns, c.rows, splits, c.parts, c.stages};
      if (shared_bytes(c, p, launch) > device.shared_bytes) continue;
      const Work work = work_of(product, p, launch, device);
      // The model only ranks launches.
      const double own = work.bytes * kCosts.bytes + work.exponentials * kCosts.exponentials +
                         work.chunks * kCosts.chunks;
      if (best.path == Path::generic || own < least) best = launch, least = own;
    }
  }
  return best;
}

int run(Product product, const Problem& p, const Launch& launch, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (p.batch * p.groups * p.height * p.width == 0) return cudaSuccess;
  // A path that the launch forces on a type of another one ends in the error.
  switch (launch.path) {
    case Path::generic: return run_generic(product, p, stream);
    case Path::fma:
      if (p.type == Type::float32) return run_fma(product, p, launch, stream);
      break;
    case Path::band:
      if (p.type == Type::float16) return run_band<half_t>(product, p, launch, stream);
      if (p.type == Type::bfloat16) return run_band<bfloat16_t>(product, p, launch, stream);
      break;
    case Path::tf32:
      if (p.type == Type::float32) return run_band<float>(product, p, launch, stream);
      break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace svconv::cuda

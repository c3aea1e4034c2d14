// The choice which kernel computes a product and how it is cut into blocks, and the call of that kernel.
#include "paths.h"
#include "plane.h"

#include <algorithm>

namespace svconv::cuda {
namespace {

using Path = Launch::Path;

// The tiles that a block may have: columns x 8 pixels by rows x 4 (band and tf32; 2 in the gradient of K = 11) or x 1
// (fma). cost() below ranks those that fit the device's shared memory.
struct Candidate {
  Path path;
  bool gradient;
  int columns, rows, splits, stages;  // splits: parts of a block's warps; 0 where the grid is split instead
};

constexpr Candidate kCandidates[] = {
    // 32 x 16 pixels: the least halo, 1.9 times the pixels; 216 KB and all registers of an SM
    {Path::band, false, 4, 4, 0, 3},
    // 32 x 8: two blocks an SM, one computes while the other builds its bands; 100 KB
    {Path::band, false, 4, 2, 0, 2},
    // 16 x 8: mid-sized frames, and sm_120, whose blocks have 99 KB
    {Path::band, false, 2, 2, 0, 3},
    // 16 x 4 and 8 x 4: frames of a few thousand pixels, one warp or two a block, many blocks an SM
    {Path::band, false, 2, 1, 0, 3},
    {Path::band, false, 1, 1, 0, 3},
    // 32 x 8: 8 warps of 255 registers fill an SM
    {Path::band, true, 4, 2, 1, 3},
    // 32 x 4: fits sm_120
    {Path::band, true, 4, 1, 1, 2},
    // 16 x 4 and 8 x 4 with two warps a tile, each on every other 16 channels: small frames
    {Path::band, true, 2, 1, 2, 2},
    {Path::band, true, 1, 1, 2, 2},
    // 32 x 8: 8 warps whose bands fill the registers of an SM; logits 105 KB behind a chunk of 82 KB
    {Path::tf32, false, 4, 2, 0, 2},
    // 16 x 4: fits sm_120, three blocks an SM elsewhere
    {Path::tf32, false, 2, 1, 0, 2},
    // 8 x 4: small frames
    {Path::tf32, false, 1, 1, 0, 2},
    // 32 x 8: 8 warps of 255 registers; chunks of 16 channels, 61 KB
    {Path::tf32, true, 4, 2, 1, 3},
    // 32 x 4: fits sm_120
    {Path::tf32, true, 4, 1, 1, 2},
    // 16 x 4 and 8 x 4 with two warps a tile, each on every other 8 channels: small frames
    {Path::tf32, true, 2, 1, 2, 2},
    {Path::tf32, true, 1, 1, 2, 2},
    // 16 x 8 pixels, two blocks an SM and one on sm_120: weights 41 KB, a chunk of input 54 KB
    {Path::fma, false, 2, 8, 0, 1},
    // 16 x 4 and 8 x 4: small frames
    {Path::fma, false, 2, 4, 0, 1},
    {Path::fma, false, 1, 4, 0, 1},
    // 16 x 8: nine tap rows x 16 runs of 8 pixels
    {Path::fma, true, 2, 8, 1, 2},
    {Path::fma, true, 2, 4, 1, 2},
    {Path::fma, true, 1, 4, 1, 2},
};

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
int rows_of(const Candidate& c, const Problem& p) {
  if (c.path == Path::fma) return 1;
  return c.gradient ? gradient_rows(p.kernel) : kRows;
}

// True if the registers allow a block of so many warps. The fma kernels were compiled for what they have in the table.
bool fits_registers(const Candidate& c, const Problem& p) {
  const int threads = 32 * c.columns * c.rows * (c.gradient ? c.splits : 1);
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

// The time of the busiest SM, in pixels x chunks of 32 channels: what passes through it, and the latency of one block,
// as if a chunk took 128 pixels' time alone. Building the weights counts as 4 chunks. The model only ranks tiles.
double cost(const Candidate& c, const Launch& launch, const Problem& p, const Device& device) {
  const int rows = launch.rows * rows_of(c, p), columns = launch.columns * 8;
  const int of_grid = c.splits == 0 ? launch.splits : 1, of_block = c.splits == 0 ? 1 : launch.splits;
  const int64_t chunks = divide_up(divide_up(p.channels / p.groups, 32), of_grid);
  const int64_t busiest = divide_up(count_tiles(p, rows, columns, of_grid), device.processors);
  const int halo = p.kernel <= 9 ? 8 : 16;
  const double pixels = (rows * columns + (rows + p.kernel - 1.0) * (columns + halo)) / 2;  // written and read
  return busiest * (chunks + 4) * pixels + chunks * 128.0 / of_block;
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

Launch choose(Product product, const Problem& p, const Device& device, bool tf32) {
  Launch best;
  const Path path = path_of(p, tf32);
  if (path == Path::generic) return best;
  const int64_t chunks = divide_up(p.channels / p.groups, 32);
  double least = 0;
  for (const Candidate& c : kCandidates) {
    if (c.path != path || c.gradient != (product == Product::grad_weight) || !fits_registers(c, p)) continue;
    const int fewest = std::max(c.splits, 1), most = c.splits ? c.splits : int(std::min<int64_t>(chunks, 8));
    for (int splits = fewest; splits <= most; ++splits) {
      const Launch launch{path, c.columns, c.rows, splits, c.stages};
      if (shared_bytes(c, p, launch) > device.shared_bytes) continue;
      const double own = cost(c, launch, p, device);
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

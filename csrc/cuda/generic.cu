// The three products for everything that no specialised kernel takes: any odd K, dilation, groups, padding, strides and
// type. A thread computes a pixel of a few channels, or a warp a pixel, by plain loops on 64-bit indices.
#include "numbers.h"
#include "paths.h"
#include "plane.h"

namespace svconv::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kChannels = 4;  // of a thread, which share one reading of the weights

struct Pixel {
  int64_t n, group, part, y, x;
};

// Pixel `index` of (n, group, part, y, x), row-major.
__device__ Pixel pixel_at(const Problem& p, int64_t parts, int64_t index) {
  const auto take = [&index](int64_t size) {
    const int64_t digit = index % size;
    index /= size;
    return digit;
  };
  Pixel at;
  at.x = take(p.width);
  at.y = take(p.height);
  at.part = take(parts);
  at.group = take(p.groups);
  at.n = index;
  return at;
}

__device__ bool inside(const Problem& p, int64_t y, int64_t x) {
  return y >= 0 && y < p.height && x >= 0 && x < p.width;
}

template <class A>
__device__ A* lse_at(const Problem& p, const Pixel& at, int64_t y, int64_t x) {
  return static_cast<A*>(p.lse) + ((at.n * p.groups + at.group) * p.height + y) * p.width + x;
}

template <class T>
__global__ void __launch_bounds__(kThreads) log_sum_exp(Problem p, int64_t count) {
  using A = Accumulate<T>;
  const int64_t K = p.kernel, r = K / 2;
  for (int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; index < count;
       index += int64_t(gridDim.x) * blockDim.x) {
    const Pixel at = pixel_at(p, 1, index);
    const Plane<const T> logits = plane<const T>(p.logits, at.n, at.group * K * K);
    const auto excluded = [&](int64_t k) {
      return p.renormalize && !inside(p, at.y - p.dilation * (k / K - r), at.x - p.dilation * (k % K - r));
    };
    A top = -A(INFINITY);
    for (int64_t k = 0; k < K * K; ++k)
      if (!excluded(k)) top = larger(top, widen(*logits.at(k, at.y, at.x)));
    A sum = 0;
    for (int64_t k = 0; k < K * K; ++k)
      if (!excluded(k)) sum += exponential(widen(*logits.at(k, at.y, at.x)) - top);
    *lse_at<A>(p, at, at.y, at.x) = top + logarithm(sum);
  }
}

// forward (reversed = false) and grad_input (reversed = true): the weights of pixel (y, x), or those that reach it.
template <class T>
__global__ void __launch_bounds__(kThreads) weighted_sum(Problem p, bool reversed, int64_t count) {
  using A = Accumulate<T>;
  const int64_t K = p.kernel, r = K / 2, depth = p.channels / p.groups, parts = divide_up(depth, kChannels);
  const int64_t sign = reversed ? 1 : -1;
  for (int64_t index = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; index < count;
       index += int64_t(gridDim.x) * blockDim.x) {
    const Pixel at = pixel_at(p, parts, index);
    const Plane<const T> logits = plane<const T>(p.logits, at.n, at.group * K * K);
    const Plane<const T> data = plane<const T>(p.data, at.n, at.group * depth);
    const Plane<T> result = plane<T>(p.result, at.n, at.group * depth);
    A sum[kChannels] = {};
    for (int64_t k = 0; k < K * K; ++k) {
      const int64_t y = at.y + sign * p.dilation * (k / K - r), x = at.x + sign * p.dilation * (k % K - r);
      if (!inside(p, y, x)) continue;
      const int64_t wy = reversed ? y : at.y, wx = reversed ? x : at.x;
      A weight = widen(*logits.at(k, wy, wx));
      if (p.normalize) weight = exponential(weight - *lse_at<A>(p, at, wy, wx));
      for (int i = 0; i < kChannels; ++i)
        if (at.part * kChannels + i < depth) sum[i] += weight * widen(*data.at(at.part * kChannels + i, y, x));
    }
    for (int i = 0; i < kChannels; ++i)
      if (at.part * kChannels + i < depth) *result.at(at.part * kChannels + i, at.y, at.x) = narrow<T>(sum[i]);
  }
}

// The gradient dw of one tap: the sum over the channels.
template <class T>
__device__ Accumulate<T> reduce_channels(const Problem& p, const Pixel& at, Plane<const T> data, Plane<const T> grad,
                                         int64_t k, int64_t depth) {
  const int64_t K = p.kernel, r = K / 2;
  const int64_t y = at.y - p.dilation * (k / K - r), x = at.x - p.dilation * (k % K - r);
  Accumulate<T> sum = 0;
  if (!inside(p, y, x)) return sum;
  for (int64_t c = 0; c < depth; ++c) sum += widen(*grad.at(c, at.y, at.x)) * widen(*data.at(c, y, x));
  return sum;
}

// A warp computes a pixel, each lane some of its taps. dw is computed twice rather than kept: K has no bound here.
template <class T>
__global__ void __launch_bounds__(kThreads) weight_gradient(Problem p, int64_t count) {
  using A = Accumulate<T>;
  const int64_t K = p.kernel, r = K / 2, depth = p.channels / p.groups;
  const int lane = threadIdx.x % 32;
  const int64_t warps = blockDim.x / 32;
  for (int64_t index = blockIdx.x * warps + threadIdx.x / 32; index < count; index += gridDim.x * warps) {
    const Pixel at = pixel_at(p, 1, index);
    const Plane<const T> logits = plane<const T>(p.logits, at.n, at.group * K * K);
    const Plane<const T> data = plane<const T>(p.data, at.n, at.group * depth);
    const Plane<const T> grad = plane<const T>(p.grad, at.n, at.group * depth);
    const Plane<T> result = plane<T>(p.result, at.n, at.group * K * K);
    const auto weight = [&](int64_t k) {
      if (!p.normalize) return A(1);
      if (p.renormalize && !inside(p, at.y - p.dilation * (k / K - r), at.x - p.dilation * (k % K - r))) return A(0);
      return exponential(widen(*logits.at(k, at.y, at.x)) - *lse_at<A>(p, at, at.y, at.x));
    };
    A delta = 0;
    if (p.normalize) {
      for (int64_t k = lane; k < K * K; k += 32) delta += weight(k) * reduce_channels<T>(p, at, data, grad, k, depth);
      for (int step = 16; step > 0; step /= 2) delta += __shfl_xor_sync(0xffffffffu, delta, step);
    }
    for (int64_t k = lane; k < K * K; k += 32)
      *result.at(k, at.y, at.x) = narrow<T>(weight(k) * (reduce_channels<T>(p, at, data, grad, k, depth) - delta));
  }
}

int64_t blocks_for(int64_t count, int64_t per_block) {
  const int64_t blocks = divide_up(count, per_block);
  return blocks < INT32_MAX ? blocks : INT32_MAX;
}

template <class T>
int run_type(Product product, const Problem& p, cudaStream_t stream) {
  const int64_t pixels = p.batch * p.groups * p.height * p.width;
  if (product == Product::grad_weight)
    return start_kernel(weight_gradient<T>, dim3(blocks_for(pixels, kThreads / 32)), dim3(kThreads), 0, stream, p,
                        pixels);
  if (product == Product::forward && p.normalize) {
    const dim3 blocks(blocks_for(pixels, kThreads));
    const int error = start_kernel(log_sum_exp<T>, blocks, dim3(kThreads), 0, stream, p, pixels);
    if (error) return error;
  }
  const int64_t count = pixels * divide_up(p.channels / p.groups, kChannels);
  if (count == 0) return 0;
  return start_kernel(weighted_sum<T>, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0, stream, p,
                      product == Product::grad_input, count);
}

}  // namespace

int run_generic(Product product, const Problem& p, cudaStream_t stream) {
  switch (p.type) {
    case Type::float32: return run_type<float>(product, p, stream);
    case Type::float64: return run_type<double>(product, p, stream);
    case Type::float16: return run_type<half_t>(product, p, stream);
    case Type::bfloat16: return run_type<bfloat16_t>(product, p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace svconv::cuda

// Storage types, the types they are summed in, and the softmax's functions in those. For all kernels.
#pragma once

#include "device.h"
#include "../shared.h"

#include <cmath>

namespace svconv::cuda {

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(half_t x) { return to_float(x); }
__device__ __forceinline__ float widen(bfloat16_t x) { return to_float(x); }

template <class T>
__device__ __forceinline__ T narrow(Accumulate<T> x) {
  return from_float<T>(x);
}
template <>
__device__ __forceinline__ float narrow<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ double narrow<double>(double x) {
  return x;
}

// An operand of a tf32 product, which drops the lower 13 bits: rounded to nearest, half away from zero. NaN and
// infinity stay as they are; half a unit more would turn NaN of all ones into zero.
__device__ __forceinline__ uint32_t tf32_operand(float x) {
  const uint32_t bits = __float_as_uint(x);
  return fabsf(x) < float(INFINITY) ? bits + 0x1000 : bits;
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

}  // namespace svconv::cuda

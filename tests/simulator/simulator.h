// CUDA on the CPU, for csrc/cuda/device.h: the language's keywords and built-ins, and twins of its helpers.
// One fiber per CUDA thread, blocks in sequence; scheduler.cpp runs them. docs/simulator.md says what is
// covered.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};

#define SVCONV_VECTOR(T, name)                                                 \
  struct alignas(2 * sizeof(T)) name##2 {                                      \
    T x, y;                                                                    \
  };                                                                           \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 {            \
    T x, y, z, w;                                                              \
  };                                                                           \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SVCONV_VECTOR(float, float)
SVCONV_VECTOR(double, double)
SVCONV_VECTOR(int, int)
SVCONV_VECTOR(unsigned, uint)
SVCONV_VECTOR(unsigned short, ushort)
#undef SVCONV_VECTOR

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = struct CUstream_st*;
inline const char* cudaGetErrorString(cudaError_t error) { return error ? "invalid launch" : "no error"; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace svconv::simulate {

// The place of a call in the kernel: threads wait together only where they wait at the same place.
struct Site {
  const char* file;
  int line;
};
#define SVCONV_SITE ::svconv::simulate::Site site = {__builtin_FILE(), __builtin_LINE()}

enum class Order { forward, reverse, random };

// The order in which blocks, and the threads of a block, run.
void set_order(Order order, unsigned seed);
// The largest dynamic shared memory of a block that launch() accepts.
void set_shared_limit(size_t bytes);
// Called before each fiber of a launch runs `body`.
cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);

[[noreturn]] void fail(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));
void* shared_memory();
void block_barrier(Site site);
int block_count(bool predicate, Site site);
void warp_barrier(unsigned mask, Site site);
// The 64 bits that another lane of the mask gives. `source` is a lane of the warp.
uint64_t shuffle(unsigned mask, uint64_t value, int source, Site site);
unsigned ballot(unsigned mask, bool predicate, Site site);
void copy_async(void* shared, const void* global, size_t bytes, bool valid, Site site);
void commit_copies();
void wait_copies(int groups_under_way);
void load_matrices(uint32_t* r, int count, bool transposed, const void* row, Site site);
void store_matrices(const uint32_t* r, int count, bool transposed, void* row, Site site);
// Sums of products of m16n8k16 and m16n8k8 (float16 or bfloat16 as decoded by `decode`; tf32).
void multiply_16x8x16(float* d, const uint32_t* a, const uint32_t* b, float (*decode)(uint16_t), Site site);
void multiply_16x8x8(float* d, const uint32_t* a, const uint32_t* b, float (*decode)(uint16_t), Site site);
void multiply_16x8x8_tf32(float* d, const uint32_t* a, const uint32_t* b, Site site);

float decode_half(uint16_t bits);
float decode_bfloat16(uint16_t bits);
uint16_t encode_half(float x);
uint16_t encode_bfloat16(float x);

template <class T>
T shuffle_value(unsigned mask, T value, int source, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class To, class From>
To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

inline int lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32; }

}  // namespace svconv::simulate

inline void __syncthreads(SVCONV_SITE) { svconv::simulate::block_barrier(site); }
inline int __syncthreads_count(int p, SVCONV_SITE) { return svconv::simulate::block_count(p, site); }
inline int __syncthreads_or(int p, SVCONV_SITE) { return svconv::simulate::block_count(p, site) != 0; }
inline void __syncwarp(unsigned mask = ~0u, SVCONV_SITE) { svconv::simulate::warp_barrier(mask, site); }
inline unsigned __ballot_sync(unsigned mask, int p, SVCONV_SITE) { return svconv::simulate::ballot(mask, p, site); }
inline int __any_sync(unsigned mask, int p, SVCONV_SITE) { return svconv::simulate::ballot(mask, p, site) != 0; }
inline int __all_sync(unsigned mask, int p, SVCONV_SITE) { return svconv::simulate::ballot(mask, p, site) == mask; }

// Lanes outside their segment of `width` lanes keep their own value, as in CUDA.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SVCONV_SITE) {
  const int lane = svconv::simulate::lane();
  return svconv::simulate::shuffle_value(mask, value, (lane & -width) | (source & (width - 1)), site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SVCONV_SITE) {
  const int lane = svconv::simulate::lane(), source = lane ^ bits;
  return svconv::simulate::shuffle_value(mask, value, source >= (lane & -width) + width ? lane : source, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SVCONV_SITE) {
  const int lane = svconv::simulate::lane(), source = lane - int(delta);
  return svconv::simulate::shuffle_value(mask, value, source < (lane & -width) ? lane : source, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SVCONV_SITE) {
  const int lane = svconv::simulate::lane(), source = lane + int(delta);
  return svconv::simulate::shuffle_value(mask, value, source >= (lane & -width) + width ? lane : source, site);
}

#define SVCONV_MIN_MAX(T)                                                      \
  inline T min(T a, T b) { return b < a ? b : a; }                             \
  inline T max(T a, T b) { return a < b ? b : a; }
SVCONV_MIN_MAX(int)
SVCONV_MIN_MAX(unsigned)
SVCONV_MIN_MAX(long)
SVCONV_MIN_MAX(unsigned long)
SVCONV_MIN_MAX(long long)
SVCONV_MIN_MAX(unsigned long long)
#undef SVCONV_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }

inline float __uint_as_float(unsigned x) { return svconv::simulate::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return svconv::simulate::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return svconv::simulate::bit_cast<float>(x); }
inline int __float_as_int(float x) { return svconv::simulate::bit_cast<int>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }

template <class T>
T __ldg(const T* p) { return *p; }
template <class T>
T __ldcs(const T* p) { return *p; }
template <class T>
T __ldcg(const T* p) { return *p; }
template <class T>
void __stcs(T* p, T x) { *p = x; }
template <class T>
void __stcg(T* p, T x) { *p = x; }

#define SVCONV_SHARED(T, name) T* const name = static_cast<T*>(svconv::simulate::shared_memory())

namespace svconv::cuda {

namespace simulate = svconv::simulate;

inline float to_float(half_t x) { return simulate::decode_half(x.bits); }
inline float to_float(bfloat16_t x) { return simulate::decode_bfloat16(x.bits); }

template <class T>
T from_float(float x);
template <>
inline half_t from_float<half_t>(float x) { return {simulate::encode_half(x)}; }
template <>
inline bfloat16_t from_float<bfloat16_t>(float x) { return {simulate::encode_bfloat16(x)}; }

template <class T>
uint32_t pack2(float lo, float hi) { return from_float<T>(lo).bits | uint32_t(from_float<T>(hi).bits) << 16; }

inline void cp_async_16(void* shared, const void* global, bool valid, SVCONV_SITE) {
  simulate::copy_async(shared, global, 16, valid, site);
}
inline void cp_async_8(void* shared, const void* global, bool valid, SVCONV_SITE) {
  simulate::copy_async(shared, global, 8, valid, site);
}
inline void cp_async_4(void* shared, const void* global, bool valid, SVCONV_SITE) {
  simulate::copy_async(shared, global, 4, valid, site);
}
inline void cp_async_commit() { simulate::commit_copies(); }
template <int N>
void cp_async_wait() { simulate::wait_copies(N); }

inline void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row, SVCONV_SITE) {
  simulate::load_matrices(r, 4, false, shared_row, site);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row, SVCONV_SITE) {
  simulate::load_matrices(r, 4, true, shared_row, site);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row, SVCONV_SITE) {
  simulate::load_matrices(r, 2, false, shared_row, site);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row, SVCONV_SITE) {
  simulate::load_matrices(r, 2, true, shared_row, site);
}
inline void stmatrix_x4(void* shared_row, const uint32_t (&r)[4], SVCONV_SITE) {
  simulate::store_matrices(r, 4, false, shared_row, site);
}
inline void stmatrix_x4_trans(void* shared_row, const uint32_t (&r)[4], SVCONV_SITE) {
  simulate::store_matrices(r, 4, true, shared_row, site);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SVCONV_SITE);
template <>
inline void mma_m16n8k16<half_t>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], simulate::Site site) {
  simulate::multiply_16x8x16(d, a, b, simulate::decode_half, site);
}
template <>
inline void mma_m16n8k16<bfloat16_t>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                     simulate::Site site) {
  simulate::multiply_16x8x16(d, a, b, simulate::decode_bfloat16, site);
}
template <class T>
void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], uint32_t b, SVCONV_SITE);
template <>
inline void mma_m16n8k8<half_t>(float (&d)[4], const uint32_t (&a)[2], uint32_t b, simulate::Site site) {
  simulate::multiply_16x8x8(d, a, &b, simulate::decode_half, site);
}
template <>
inline void mma_m16n8k8<bfloat16_t>(float (&d)[4], const uint32_t (&a)[2], uint32_t b, simulate::Site site) {
  simulate::multiply_16x8x8(d, a, &b, simulate::decode_bfloat16, site);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SVCONV_SITE) {
  simulate::multiply_16x8x8_tf32(d, a, b, site);
}

template <class... P, class... A>
cudaError_t start_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
                         const A&... args) {
  return simulate::launch(grid, block, shared_bytes, [&] { kernel(static_cast<P>(args)...); });
}

}  // namespace svconv::cuda

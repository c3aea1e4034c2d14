// Kernels that do one operation each, for test_primitives.py.
#include "device.h"
#include "server.h"

using namespace svconv::cuda;
using svconv::simulate::Buffers;
using svconv::simulate::Function;
using svconv::simulate::Numbers;

namespace {

template <class T = float>
T* buffer(const Buffers& buffers, int i) { return static_cast<T*>(buffers[i]); }

template <class T>
__global__ void mma(const uint32_t* a, const uint32_t* b, float* d) {
  const int lane = threadIdx.x % 32;
  uint32_t fa[4], fb[2];
  float fd[4];
  for (int i = 0; i < 4; ++i) fa[i] = a[4 * lane + i], fd[i] = d[4 * lane + i];
  for (int i = 0; i < 2; ++i) fb[i] = b[2 * lane + i];
  if constexpr (sizeof(T) == 4) {
    mma_m16n8k8_tf32(fd, fa, fb);
  } else {
    mma_m16n8k16<T>(fd, fa, fb);
  }
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = fd[i];
}

template <class T>
void run_mma(const Numbers&, const Buffers& b) {
  start_kernel(mma<T>, 1, 32, 0, nullptr, buffer<uint32_t>(b, 0), buffer<uint32_t>(b, 1), buffer(b, 2));
}
const Function mma_half("mma_float16", run_mma<half_t>);
const Function mma_bfloat16("mma_bfloat16", run_mma<bfloat16_t>);
const Function mma_tf32("mma_tf32", run_mma<float>);

template <class T>
__global__ void mma_of_8(const uint32_t* a, const uint32_t* b, float* d) {
  const int lane = threadIdx.x % 32;
  const uint32_t fa[2] = {a[2 * lane], a[2 * lane + 1]};
  float fd[4];
  for (int i = 0; i < 4; ++i) fd[i] = d[4 * lane + i];
  mma_m16n8k8<T>(fd, fa, b[lane]);
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = fd[i];
}

template <class T>
void run_mma_of_8(const Numbers&, const Buffers& b) {
  start_kernel(mma_of_8<T>, 1, 32, 0, nullptr, buffer<uint32_t>(b, 0), buffer<uint32_t>(b, 1), buffer(b, 2));
}
const Function mma_of_8_half("mma_of_8_float16", run_mma_of_8<half_t>);
const Function mma_of_8_bfloat16("mma_of_8_bfloat16", run_mma_of_8<bfloat16_t>);

// Moves matrices between the image of shared memory and the lanes' registers; each lane gives the offset of a row.
__global__ void matrices(int variant, int bytes, const int* rows, unsigned char* image, uint32_t* registers) {
  SVCONV_SHARED(unsigned char, shared);
  const int lane = threadIdx.x;
  for (int i = lane; i < bytes; i += 32) shared[i] = image[i];
  __syncwarp();
  unsigned char* row = shared + rows[lane];
  uint32_t r[4], r2[2] = {};
  for (int i = 0; i < 4; ++i) r[i] = registers[4 * lane + i];
  if (variant == 0) ldmatrix_x4(r, row);
  if (variant == 1) ldmatrix_x4_trans(r, row);
  if (variant == 2) ldmatrix_x2(r2, row);
  if (variant == 3) ldmatrix_x2_trans(r2, row);
  if (variant == 4) stmatrix_x4(row, r);
  if (variant == 5) stmatrix_x4_trans(row, r);
  __syncwarp();
  if (variant == 2 || variant == 3) r[0] = r2[0], r[1] = r2[1];
  for (int i = 0; i < 4; ++i) registers[4 * lane + i] = r[i];
  for (int i = lane; i < bytes; i += 32) image[i] = shared[i];
}
const Function run_matrices("matrices", [](const Numbers& n, const Buffers& b) {
  start_kernel(matrices, 1, 32, n[1], nullptr, int(n[0]), int(n[1]), buffer<int>(b, 0), buffer<unsigned char>(b, 1),
         buffer<uint32_t>(b, 2));
});

template <int bytes>
__device__ void cp_async(void* shared, const void* global, bool valid) {
  if constexpr (bytes == 16) cp_async_16(shared, global, valid);
  if constexpr (bytes == 8) cp_async_8(shared, global, valid);
  if constexpr (bytes == 4) cp_async_4(shared, global, valid);
}

// Two groups of copies a thread, of whose second one every other thread's is not valid; what each thread sees of its
// own before any wait, with one group under way, and after all.
template <int bytes>
__global__ void copies(const unsigned char* source, unsigned char* seen, int shift) {
  SVCONV_SHARED(unsigned char, shared);
  const int t = threadIdx.x, size = 2 * blockDim.x * bytes;
  unsigned char* own = shared + 2 * bytes * t;
  const auto look = [&](int stage) {
    for (int i = 0; i < 2 * bytes; ++i) seen[stage * size + 2 * bytes * t + i] = own[i];
  };
  cp_async<bytes>(own, source + 2 * bytes * t + shift, true);
  cp_async_commit();
  cp_async<bytes>(own + bytes, source + 2 * bytes * t + bytes, t % 2 == 0);
  cp_async_commit();
  look(0);
  cp_async_wait<1>();
  look(1);
  cp_async_wait<0>();
  look(2);
}
template <int bytes>
void run_copies(const Numbers& n, const Buffers& b) {
  start_kernel(copies<bytes>, 1, n[0], 2 * bytes * n[0], nullptr, buffer<unsigned char>(b, 0),
               buffer<unsigned char>(b, 1), int(n[1]));
}
const Function copies_16("copies_16", run_copies<16>);
const Function copies_8("copies_8", run_copies<8>);
const Function copies_4("copies_4", run_copies<4>);

// Columns: idx, xor, up, down shuffles of `values`, by `by` in segments of `width`.
template <class T>
__global__ void shuffles(const T* values, T* got, int by, int width) {
  const int t = threadIdx.x;
  const unsigned all = 0xffffffffu;
  got[4 * t] = __shfl_sync(all, values[t], by, width);
  got[4 * t + 1] = __shfl_xor_sync(all, values[t], by, width);
  got[4 * t + 2] = __shfl_up_sync(all, values[t], by, width);
  got[4 * t + 3] = __shfl_down_sync(all, values[t], by, width);
}
template <class T>
void run_shuffles(const Numbers& n, const Buffers& b) {
  start_kernel(shuffles<T>, 1, 64, 0, nullptr, buffer<T>(b, 0), buffer<T>(b, 1), int(n[0]), int(n[1]));
}
const Function shuffles_float("shuffles_float32", run_shuffles<float>);
const Function shuffles_double("shuffles_float64", run_shuffles<double>);
const Function shuffles_int("shuffles_int32", run_shuffles<int>);

// Columns: ballot, any, all of each half warp; count over the block.
__global__ void votes(const int* predicates, int* got) {
  const int t = threadIdx.x, p = predicates[t];
  if (t % 32 < 16) {
    got[4 * t] = __ballot_sync(0x0000ffffu, p);
  } else {
    got[4 * t] = __ballot_sync(0xffff0000u, p);
  }
  got[4 * t + 1] = __any_sync(0xffffffffu, p);
  got[4 * t + 2] = __all_sync(0xffffffffu, p);
  got[4 * t + 3] = __syncthreads_count(p);
}
const Function run_votes("votes", [](const Numbers&, const Buffers& b) {
  start_kernel(votes, 1, 64, 0, nullptr, buffer<int>(b, 0), buffer<int>(b, 1));
});

template <class T>
__global__ void convert(const float* x, uint16_t* bits, float* back, uint32_t* packed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  bits[i] = from_float<T>(x[i]).bits;
  back[i] = to_float(T{bits[i]});
  packed[i] = pack2<T>(x[i], -x[i]);
}
template <class T>
void run_convert(const Numbers& n, const Buffers& b) {
  start_kernel(convert<T>, n[0] / 32, 32, 0, nullptr, buffer(b, 0), buffer<uint16_t>(b, 1), buffer(b, 2),
         buffer<uint32_t>(b, 3));
}
const Function convert_half("convert_float16", run_convert<half_t>);
const Function convert_bfloat16("convert_bfloat16", run_convert<bfloat16_t>);

__global__ void index(int* got, unsigned* shared_nan) {
  SVCONV_SHARED(float, shared);
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  got[i] = i;
  shared_nan[i] = shared[thread] != shared[thread];
  shared[thread] = 1;
}
const Function run_index("index", [](const Numbers&, const Buffers& b) {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  start_kernel(index, grid, block, 60 * sizeof(float), nullptr, buffer<int>(b, 0), buffer<unsigned>(b, 1));
});

// Wrong on purpose, by number.
__global__ void mistakes(int mistake, float* global, int count) {
  SVCONV_SHARED(float, shared);
  const int t = threadIdx.x;
  if (mistake == 0 && t < 40) return;
  if (mistake == 1) {
    if (t % 2 == 0) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  }
  if (mistake == 2 && t != 7) global[t] = __shfl_sync(0xffffffffu, float(t), 0);
  if (mistake == 3) cp_async_16(shared + 1, global, true);
  if (mistake == 4) cp_async_16(shared, global + 1, true);
  if (mistake == 5) cp_async_16(shared + count, global, true);
  uint32_t r[4];
  if (mistake == 6) ldmatrix_x4(r, shared + 2);
  if (mistake == 7) ldmatrix_x4(r, shared + count);
  if (mistake == 8 && t == 3) shared[count] = 1;
  if (mistake == 9 && t == 3) global[t] = shared[count];
  if (mistake == 10) global[count + t] = 1;
  if (mistake == 11) global[t] = global[count + t];
  if (mistake == 12) global[t] = __shfl_sync(0x0000ffffu, float(t), 0);
  if (mistake == 13) reinterpret_cast<float4*>(global + 1)->x = 1;
  if (mistake == 14) global[count + t - 32 * (int(blockIdx.x) + 1)] = 1 / float(t + blockIdx.x);
  __syncthreads();
}
const Function run_mistakes("mistakes", [](const Numbers& n, const Buffers& b) {
  start_kernel(mistakes, n[0] == 14 ? 2 : 1, 64, n[1] * sizeof(float), nullptr, int(n[0]), buffer(b, 0), int(n[1]));
});

// Each thread adds what its left neighbour wrote; without the barriers, the order of the threads shows.
__global__ void neighbours(float* data, int block_barrier, int warp_barrier) {
  SVCONV_SHARED(float, shared);
  const int t = threadIdx.x, left = (t + blockDim.x - 1) % blockDim.x;
  shared[t] = data[t];
  if (block_barrier) __syncthreads();
  data[t] += shared[left];
  if (block_barrier) __syncthreads();
  shared[t] = data[t];
  if (warp_barrier) __syncwarp();
  data[t] += shared[t ^ 1];
}
const Function run_neighbours("neighbours", [](const Numbers& n, const Buffers& b) {
  start_kernel(neighbours, 1, n[0], n[0] * sizeof(float), nullptr, buffer(b, 0), int(n[1]), int(n[2]));
});

}  // namespace

// The functions of CUDA's runtime that a launch calls. They refuse a launch with more dynamic shared memory than its kernel was
// last set to, and let another thread launch the same kernel in between.
#include <cuda_runtime_api.h>

#include <cstdio>

cudaError_t launch(size_t shared_bytes);

namespace {

constexpr int kMost = 227 << 10;  // of a block of the device
int limit = 48 << 10, failures = 0;
bool other_thread_is_due = false;

void start(size_t shared_bytes) { failures += launch(shared_bytes) != cudaSuccess; }

}  // namespace

extern "C" {

cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = kMost;
  return attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int bytes) {
  if (bytes > kMost) return cudaErrorInvalidValue;
  limit = bytes;
  if (other_thread_is_due) {
    other_thread_is_due = false;
    start(64 << 10);
  }
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t shared_bytes, cudaStream_t) {
  return int(shared_bytes) <= limit ? cudaSuccess : cudaErrorInvalidValue;
}

}  // extern "C"

// Prints how many launches failed.
int main() {
  start(16 << 10);
  start(200 << 10);
  other_thread_is_due = true;
  start(200 << 10);
  std::printf("%d\n", failures);
}

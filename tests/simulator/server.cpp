// Serves calls from standard input until it ends. A call is a line of text, then the buffers' bytes:
//   name order seed shared_limit count_of_numbers numbers... count_of_buffers sizes...
// The answer is "done" on a line, then the buffers' bytes as the call has left them. A failed check ends the process,
// with its report on standard error. Built by nvcc, it serves the same calls on a GPU.
#include "server.h"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

#include "device.h"

namespace svconv::simulate {
namespace {

std::map<std::string, void (*)(const Numbers&, const Buffers&)>& functions() {
  static std::map<std::string, void (*)(const Numbers&, const Buffers&)> map;
  return map;
}

#ifdef SVCONV_SIMULATE

// Each buffer by itself and of its exact size, for AddressSanitizer to guard.
void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 512, bytes) != 0) std::abort();
  return memory;
}

void release(void* memory) { std::free(memory); }

void prepare(int order, unsigned seed, size_t shared_limit) {
  set_order(Order(order), seed);
  set_shared_limit(shared_limit);
}

void finish() {}

#else

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::cerr << "server: " << cudaGetErrorString(error) << std::endl;
  std::exit(3);
}

// Pinned memory of the host, which kernels read and write in place: functions touch their buffers on both sides.
void* allocate(size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes + 1));
  return memory;
}

void release(void* memory) { check(cudaFreeHost(memory)); }

void prepare(int, unsigned, size_t) {}

void finish() { check(cudaDeviceSynchronize()); }

#endif

bool serve() {
  std::string line;
  if (!std::getline(std::cin, line)) return false;
  std::istringstream header(line);
  std::string name;
  int order;
  unsigned seed;
  size_t shared_limit, count;
  header >> name >> order >> seed >> shared_limit >> count;
  Numbers numbers(count);
  for (int64_t& number : numbers) header >> number;
  header >> count;
  std::vector<size_t> sizes(count);
  for (size_t& size : sizes) header >> size;
  if (!header || functions().count(name) == 0) {
    std::cerr << "server: no such call: " << line << std::endl;
    std::exit(2);
  }
  Buffers buffers;
  for (size_t size : sizes) {
    buffers.push_back(allocate(size));
    std::cin.read(static_cast<char*>(buffers.back()), std::streamsize(size));
  }
  prepare(order, seed, shared_limit);
  functions()[name](numbers, buffers);
  finish();
  std::cout << "done\n";
  for (size_t i = 0; i < sizes.size(); ++i) {
    std::cout.write(static_cast<char*>(buffers[i]), std::streamsize(sizes[i]));
    release(buffers[i]);
  }
  std::cout.flush();
  return true;
}

}  // namespace

Function::Function(const char* name, void (*run)(const Numbers&, const Buffers&)) { functions()[name] = run; }

}  // namespace svconv::simulate

int main() {
  std::ios::sync_with_stdio(false);
  while (svconv::simulate::serve()) {
  }
}

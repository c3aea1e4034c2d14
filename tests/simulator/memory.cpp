// Shared memory and the asynchronous copies into it.
#include <algorithm>

#include "machine.h"

namespace svconv::simulate {
namespace {

constexpr unsigned char kUnwritten = 0xff;  // NaN in every type
constexpr unsigned char kCanary = 0xa5;
constexpr size_t kCanaryBytes = 256;

}  // namespace

void allocate_shared() {
  Machine& m = machine();
  void* memory = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  const size_t bytes = m.shared_bytes;
#else
  const size_t bytes = m.shared_bytes + kCanaryBytes;
#endif
  if (posix_memalign(&memory, 1024, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::memset(memory, kUnwritten, m.shared_bytes);
#ifndef __SANITIZE_ADDRESS__
  std::memset(static_cast<char*>(memory) + m.shared_bytes, kCanary, kCanaryBytes);
#endif
  m.shared = static_cast<char*>(memory);
}

void free_shared() {
  Machine& m = machine();
#ifndef __SANITIZE_ADDRESS__
  for (size_t i = 0; i < kCanaryBytes; ++i) {
    if (static_cast<unsigned char>(m.shared[m.shared_bytes + i]) != kCanary) {
      std::fprintf(stderr, "simulator: write %zu bytes past the %zu bytes of shared memory, block (%u, %u, %u)\n", i,
                   m.shared_bytes, blockIdx.x, blockIdx.y, blockIdx.z);
      std::_Exit(3);
    }
  }
#endif
#ifdef SVCONV_TSAN
  // Blocks are not ordered among each other: freeing here would count as a race with this one's threads.
  m.shared_of_past_blocks.push_back(m.shared);
#else
  std::free(m.shared);
#endif
}

void* shared_memory() { return machine().shared; }

void check_shared(const void* address, size_t bytes, size_t alignment, Site site) {
  const Machine& m = machine();
  const uintptr_t at = reinterpret_cast<uintptr_t>(address), begin = reinterpret_cast<uintptr_t>(m.shared);
  if (at % alignment != 0) fail(site, "shared address not aligned to %zu bytes", alignment);
  if (at < begin || at + bytes > begin + m.shared_bytes) {
    fail(site, "bytes %td to %td of %zu bytes of shared memory", static_cast<const char*>(address) - m.shared,
         static_cast<const char*>(address) - m.shared + ptrdiff_t(bytes), m.shared_bytes);
  }
}

void copy_async(void* shared, const void* global, size_t bytes, bool valid, Site site) {
  check_shared(shared, bytes, bytes, site);
  if (reinterpret_cast<uintptr_t>(global) % bytes != 0) fail(site, "global address not aligned to %zu bytes", bytes);
  Thread& t = *machine().current;
  if (valid) {
    // Touched here for AddressSanitizer to name the call; read when it is waited for.
    for (size_t i = 0; i < bytes; ++i) (void)static_cast<const volatile char*>(global)[i];
    __tsan_read_range(const_cast<void*>(global), bytes);
  }
  __tsan_write_range(shared, bytes);
  for (size_t i = 0; i < bytes; ++i) static_cast<volatile unsigned char*>(shared)[i] = kUnwritten;
  t.copies.push_back({shared, global, bytes, valid, t.groups});
}

void commit_copies() { ++machine().current->groups; }

void wait_copies(int groups_under_way) {
  Thread& t = *machine().current;
  size_t done = 0;
  for (; done < t.copies.size() && t.copies[done].group < t.groups - groups_under_way; ++done) {
    const Copy& copy = t.copies[done];
    __tsan_write_range(copy.shared, copy.bytes);
    for (size_t i = 0; i < copy.bytes; ++i) {
      static_cast<volatile char*>(copy.shared)[i] = copy.valid ? static_cast<const char*>(copy.global)[i] : 0;
    }
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + done);
}

}  // namespace svconv::simulate

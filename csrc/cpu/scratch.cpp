// Scratch memory of each thread, kept between products.
#include "kernels.h"

#include <cstdlib>
#include <new>
#include <vector>

namespace svconv::cpu {
namespace {

struct Scratch {
  char* data = nullptr;
  size_t size = 0, taken = 0;
  std::vector<void*> beyond;  // blocks of what was taken beyond `size`

  ~Scratch() {
    end();
    std::free(data);
  }

  void* take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (taken + bytes <= size) return data + (taken += bytes) - bytes;
    beyond.reserve(beyond.size() + 1);
    void* const block = std::aligned_alloc(64, bytes);
    if (!block) throw std::bad_alloc();
    beyond.push_back(block);
    taken += bytes;
    return block;
  }

  // Gives everything back, and makes room for as much.
  void end() noexcept {
    for (void* const block : beyond) std::free(block);
    beyond.clear();
    if (taken > size) {
      std::free(data);
      // Huge pages lie whole in the caches: small ones, scattered over physical memory, collide in L2.
      constexpr size_t small_page = 4096, huge_page = size_t(2) << 20;
      const size_t page = taken > huge_page / 4 ? huge_page : small_page;
      size = (taken + page - 1) / page * page;
      data = static_cast<char*>(std::aligned_alloc(page, size));
      if (!data) size = 0;
      else if (page == huge_page) advise_huge_pages(data, size);
    }
    taken = 0;
  }
};

thread_local Scratch own;

}  // namespace

void* take_scratch(size_t bytes) { return own.take(bytes); }

void end_scratch() noexcept { own.end(); }

}  // namespace svconv::cpu

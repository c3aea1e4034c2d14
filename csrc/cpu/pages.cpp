// Memory of large results, kept between calls: the system clears every page of new memory, which takes longer than
// computing what is written there.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace svconv::cpu {
namespace {

constexpr size_t kHugePage = size_t(2) << 20, kMostKept = size_t(512) << 20;

struct Kept {
  std::mutex mutex;
  std::vector<Pages> blocks;  // the one kept longest comes first
  size_t bytes = 0;

  Pages remove(std::vector<Pages>::iterator block) {
    const Pages pages = *block;
    blocks.erase(block);
    bytes -= pages.bytes;
    return pages;
  }
};

// Never destroyed: results are freed after the end of main, too.
Kept& kept() {
  static Kept* const instance = new Kept;
  return *instance;
}

}  // namespace

Pages take_pages(size_t bytes) {
  bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  Kept& k = kept();
  // Never waited for: in a process that was forked the thread that holds the lock may not exist.
  if (const std::unique_lock lock(k.mutex, std::try_to_lock); lock) {
    const auto fits = [bytes](const Pages& p) { return p.bytes >= bytes && p.bytes - bytes <= bytes / 8; };
    // The one given back last may lie in a cache.
    const auto found = std::find_if(k.blocks.rbegin(), k.blocks.rend(), fits);
    if (found != k.blocks.rend()) return k.remove(std::prev(found.base()));
  }
  void* const data = std::aligned_alloc(kHugePage, bytes);
  if (data) advise_huge_pages(data, bytes);
  return {data, bytes, true};
}

void give_pages(Pages pages) {
  pages.fresh = false;
#ifdef __linux__
  // The system may take the pages when memory is short; then they are fresh ones at the next write.
  madvise(pages.data, pages.bytes, MADV_FREE);
#endif
  std::vector<Pages> dropped;
  Kept& k = kept();
  if (const std::unique_lock lock(k.mutex, std::try_to_lock); lock && pages.bytes <= kMostKept) {
    while (k.bytes + pages.bytes > kMostKept) dropped.push_back(k.remove(k.blocks.begin()));
    k.blocks.push_back(pages);
    k.bytes += pages.bytes;
  } else {
    dropped.push_back(pages);
  }
  for (const Pages& p : dropped) std::free(p.data);
}

}  // namespace svconv::cpu

// Chooses the instruction set at run time and cuts problems into work items.
#include "frame.h"
#include "kernels.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <cstdlib>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif
#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

namespace svconv::cpu {

namespace baseline { void run(Product, const Problem&, const Plan&, int64_t, int64_t); }
#ifdef SVCONV_X86
namespace avx2 { void run(Product, const Problem&, const Plan&, int64_t, int64_t); }
namespace avx512 { void run(Product, const Problem&, const Plan&, int64_t, int64_t); }
#endif

namespace {

#ifdef SVCONV_X86
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

struct Table {
  InstructionSet sets[3];
  int count = 0;
  Table() {
    sets[count++] = {"baseline", true, baseline::run};
#ifdef SVCONV_X86
    __builtin_cpu_init();
    sets[count++] = {"avx2", has_avx2(), avx2::run};
    sets[count++] = {"avx512", has_avx512(), avx512::run};
#endif
  }
  const InstructionSet* widest() const {
    int i = count - 1;
    while (!sets[i].supported) --i;
    return &sets[i];
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

std::atomic<const InstructionSet*>& active() {
  static std::atomic<const InstructionSet*> instance{table().widest()};
  return instance;
}

}  // namespace

const InstructionSet* instruction_sets(int* count) {
  *count = table().count;
  return table().sets;
}

const char* active_instruction_set() { return active().load()->name; }

bool force_instruction_set(const char* name) {
  if (!name) {
    active() = table().widest();
    return true;
  }
  for (int i = 0; i < table().count; ++i) {
    const InstructionSet& set = table().sets[i];
    if (std::strcmp(set.name, name) == 0 && set.supported) {
      active() = &set;
      return true;
    }
  }
  return false;
}

int64_t threads_for(const Problem& p, int64_t most) {
  // Two threads took 0.56 to 0.73 of one thread's time from twice this on, and a half of that gained next to nothing,
  // while a second thread that has no core to itself costs milliseconds (docs/backends.md).
  constexpr double kWorkOfThread = 1 << 20;
  // Reading a logit and taking its exponential count as the products of 64 channels.
  constexpr int64_t kWeightInChannels = 64;
  // The products are taken in floating point, where none overflows.
  const double weights = double(p.batch * p.height * p.width) * p.groups * p.kernel * p.kernel;
  const double threads = weights * (p.channels / p.groups + kWeightInChannels) / kWorkOfThread;
  return threads < 1 ? 1 : threads < most ? int64_t(threads) : std::max<int64_t>(most, 1);
}

Plan plan(Product product, const Problem& problem, int64_t threads) {
  const Problem p = frame_of(product, problem);
  if (p.batch * p.groups * p.height * p.width == 0) return {};
  const SubImages images = sub_images(p);
  // Wide items make for long runs of memory and little halo; an item's weights (forward) or windows (grad_weight) for
  // a few rows fit a 512 KiB L2. Widths are multiples of every register tile (6 or 12 pixels) and vector (4, 8, 16).
  const bool keeps_windows = product == Product::grad_weight && !is_narrow(problem);
  const int64_t widest = keeps_windows ? 64 : 264;
  const int64_t granule = keeps_windows ? 16 : images.width > widest ? 48 : 12;
  Plan plan;
  plan.columns = divide_up(divide_up(images.width, divide_up(images.width, widest)), granule) * granule;
  const int64_t columns =
      divide_up(images.width, plan.columns) * p.batch * p.groups * images.rows * images.columns;
  // Each thread takes an equal count of items in a row: as many as there are threads, or else a few for each.
  const int64_t tallest = keeps_windows ? 32 : 64;
  int64_t parts = std::max(divide_up(images.height, tallest), divide_up(threads, columns));
  if (columns * parts % threads != 0) parts = std::max(parts, divide_up(4 * threads, columns));
  plan.rows = divide_up(images.height, std::min(parts, images.height));
  plan.items = columns * divide_up(images.height, plan.rows);
  return plan;
}

void run(Product product, const Problem& problem, const Plan& plan, int64_t begin, int64_t end) {
  active().load()->run(product, problem, plan, begin, end);
}

int64_t l2_bytes() {
  static const int64_t bytes = [] {
#ifdef _SC_LEVEL2_CACHE_SIZE
    if (const long size = sysconf(_SC_LEVEL2_CACHE_SIZE); size > 0) return int64_t(size);
#endif
    return int64_t(1) << 20;
  }();
  return bytes;
}

void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
  constexpr uintptr_t page = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (bytes >= size_t(2) << 20) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

void populate_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
  constexpr int populate_write = 23;  // MADV_POPULATE_WRITE, Linux 5.14
  constexpr uintptr_t page = 4096;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, populate_write);
#endif
}

}  // namespace svconv::cpu

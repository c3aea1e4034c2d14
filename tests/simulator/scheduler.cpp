// The simulated GPU: runs the threads of a block as fibers, in a chosen order, and reports threads that wait for each
// other in vain.
#include <algorithm>
#include <climits>
#include <cstdarg>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fiber.h"
#include "scheduler.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#ifdef __x86_64__
asm(R"(
.text
.globl svconv_switch_stack
.type svconv_switch_stack, @function
svconv_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size svconv_switch_stack, . - svconv_switch_stack
)");
#endif

namespace svconv::simulate {
namespace {

constexpr unsigned char kUnwritten = 0xff;  // NaN in every type
constexpr unsigned char kCanary = 0xa5;
constexpr size_t kCanaryBytes = 256;

enum class State { ready, at_block_barrier, at_warp_operation, exited };

struct Copy {
  void* shared;
  const void* global;
  size_t bytes;
  bool valid;
  int group;
};

// Where ThreadSanitizer sees threads meet; two in turn, since one thread may come to the next meeting before another
// has left this one.
struct Meeting {
  char object[2];
  unsigned count = 0;
};

struct Thread {
  explicit Thread(void (*entry)()) : fiber(entry) {}
  Fiber fiber;
  uint3 index{};
  int number = 0;
  State state = State::ready;
  Site site{};
  unsigned mask = 0;
  void* record = nullptr;
  std::vector<Copy> copies;
  int groups = 0;
};

struct Warp {
  unsigned waiting = 0;
  std::map<unsigned, Meeting> meetings;  // by mask
};

struct Machine {
  Order order = Order::forward;
  unsigned seed = 0;
  size_t shared_limit = 99 * 1024;  // the smallest of the architectures built for: sm_120
  std::mt19937 random;

  Fiber* scheduler = nullptr;
  std::vector<std::unique_ptr<Thread>> pool;
  const std::function<void()>* body = nullptr;

  // The block at hand.
  int threads = 0;
  Thread* current = nullptr;
  std::vector<Warp> warps;
  int at_barrier = 0;
  int votes = 0, votes_passed = 0;
  Meeting meeting;
  char start, end;  // of the launch, for ThreadSanitizer
  char* shared = nullptr;
  size_t shared_bytes = 0;
  std::vector<void*> shared_of_past_blocks;
};

Machine& machine() {
  static Machine& m = *new Machine;
  return m;
}

void suspend() {
  Machine& m = machine();
  m.current->fiber.switch_to(*m.scheduler);
}

void resume(Thread& t) {
  Machine& m = machine();
  m.current = &t;
  threadIdx = t.index;
  m.scheduler->switch_to(t.fiber);
}

void thread_main() {
  Fiber::entered();
  Machine& m = machine();
  for (;;) {
    __tsan_acquire(&m.start);
    (*m.body)();
    __tsan_release(&m.end);
    m.current->state = State::exited;
    suspend();
  }
}

std::string describe(const Thread& t) {
  const std::string place = std::string(" at ") + (t.site.file ? t.site.file : "?") + ":" + std::to_string(t.site.line);
  switch (t.state) {
    case State::ready: return "run";
    case State::at_block_barrier: return "wait for the block" + place;
    case State::at_warp_operation: {
      char mask[16];
      std::snprintf(mask, sizeof mask, "%08x", t.mask);
      return std::string("wait for lanes ") + mask + " of their warp" + place;
    }
    case State::exited: return "have exited";
  }
  return "";
}

[[noreturn]] void fail_divergent() {
  Machine& m = machine();
  std::fprintf(stderr, "simulator: threads diverge at a barrier, block (%u, %u, %u):\n", blockIdx.x, blockIdx.y,
               blockIdx.z);
  for (int first = 0; first < m.threads;) {
    const std::string text = describe(*m.pool[first]);
    int last = first;
    while (last + 1 < m.threads && describe(*m.pool[last + 1]) == text) ++last;
    std::fprintf(stderr, "  threads %d to %d %s\n", first, last, text.c_str());
    first = last + 1;
  }
  std::fflush(stderr);
  std::_Exit(3);
}

bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

template <class T>
std::vector<T> ordered(T first, T last) {
  Machine& m = machine();
  std::vector<T> values;
  for (T i = first; i < last; ++i) values.push_back(i);
  if (m.order == Order::reverse) std::reverse(values.begin(), values.end());
  if (m.order == Order::random) std::shuffle(values.begin(), values.end(), m.random);
  return values;
}

// Lets each thread of a warp run until it waits. Returns whether any could.
bool pass(int warp) {
  Machine& m = machine();
  bool progress = false;
  for (int i : ordered(32 * warp, std::min(32 * warp + 32, m.threads))) {
    if (m.pool[i]->state != State::ready) continue;
    resume(*m.pool[i]);
    progress = true;
  }
  return progress;
}

// Runs the threads until none can: each warp as far ahead of the others as it comes, or by a random distance.
void run_warps() {
  Machine& m = machine();
  bool progress = true;
  while (progress) {
    progress = false;
    for (int warp : ordered(0, int(m.warps.size()))) {
      int passes = m.order == Order::random ? 1 << m.random() % 6 : INT_MAX;
      while (passes-- > 0 && pass(warp)) progress = true;
    }
  }
}

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

void run_block() {
  Machine& m = machine();
  allocate_shared();
  __tsan_release(&m.start);
  m.warps.assign((m.threads + 31) / 32, Warp());
  m.at_barrier = m.votes = 0;
  for (int i = 0; i < m.threads; ++i) {
    Thread& t = *m.pool[i];
    t.number = i;
    t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    t.state = State::ready;
    t.copies.clear();
    t.groups = 0;
  }
  run_warps();
  for (int i = 0; i < m.threads; ++i) {
    if (m.pool[i]->state != State::exited) fail_divergent();
  }
  free_shared();
}

}  // namespace

void set_order(Order order, unsigned seed) {
  machine().order = order;
  machine().seed = seed;
}

void set_shared_limit(size_t bytes) { machine().shared_limit = bytes; }

cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  Machine& m = machine();
  const uint64_t threads = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (shared_bytes > m.shared_limit) return cudaErrorInvalidValue;
  if (m.scheduler == nullptr) m.scheduler = new Fiber;
  while (m.pool.size() < threads) m.pool.push_back(std::make_unique<Thread>(thread_main));
  m.random.seed(m.seed);
  m.body = &body;
  m.threads = int(threads);
  m.shared_bytes = shared_bytes;
  gridDim = grid;
  blockDim = block;
  for (uint64_t i : ordered(uint64_t(0), blocks)) {
    blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
    run_block();
  }
  __tsan_acquire(&m.end);
  for (void* memory : m.shared_of_past_blocks) std::free(memory);
  m.shared_of_past_blocks.clear();
  return cudaSuccess;
}

void fail(Site site, const char* format, ...) {
  std::fprintf(stderr, "simulator: %s:%d: ", site.file, site.line);
  std::va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "; block (%u, %u, %u), thread (%u, %u, %u)\n", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
               threadIdx.y, threadIdx.z);
  std::fflush(stderr);
  std::_Exit(3);
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

void block_barrier(Site site) {
  Machine& m = machine();
  Thread& t = *m.current;
  t.site = site;
  t.state = State::at_block_barrier;
  void* object = &m.meeting.object[m.meeting.count % 2];
  __tsan_release(object);
  if (++m.at_barrier == m.threads) {
    for (int i = 0; i < m.threads; ++i) {
      if (!same(m.pool[i]->site, site)) fail_divergent();
    }
    for (int i = 0; i < m.threads; ++i) m.pool[i]->state = State::ready;
    m.at_barrier = 0;
    m.votes_passed = m.votes;
    m.votes = 0;
    ++m.meeting.count;
  }
  suspend();
  __tsan_acquire(object);
}

int block_count(bool predicate, Site site) {
  machine().votes += predicate;
  block_barrier(site);
  return machine().votes_passed;
}

void exchange(unsigned mask, Site site, void* record, Perform perform) {
  Machine& m = machine();
  Thread& t = *m.current;
  const int first = t.number & ~31;
  Warp& warp = m.warps[first / 32];
  if ((mask >> (t.number & 31) & 1) == 0) fail(site, "the mask %08x leaves out the calling lane", mask);
  t.site = site;
  t.mask = mask;
  t.record = record;
  t.state = State::at_warp_operation;
  warp.waiting |= 1u << (t.number & 31);
  if ((warp.waiting & mask) == mask) {
    void* records[32] = {};
    for (int lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& other = *m.pool[first + lane];
      if (other.mask != mask || !same(other.site, site)) fail_divergent();
      records[lane] = other.record;
    }
    perform(records, mask);
    for (int lane = 0; lane < 32; ++lane) {
      if (mask >> lane & 1) m.pool[first + lane]->state = State::ready;
    }
    warp.waiting &= ~mask;
    // The last to come may go on at once.
    if (m.order != Order::random) return;
  }
  suspend();
}

void warp_barrier(unsigned mask, Site site) {
  Machine& m = machine();
  Meeting& meeting = m.warps[m.current->number / 32].meetings[mask];
  void* object = &meeting.object[meeting.count % 2];
  __tsan_release(object);
  exchange(mask, site, &meeting, [](void* const* records, unsigned mask) {
    ++static_cast<Meeting*>(records[__builtin_ctz(mask)])->count;
  });
  __tsan_acquire(object);
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

// Launches: runs the threads of each block as fibers, in a chosen order.
#include <algorithm>
#include <climits>
#include <cstdarg>

#include "machine.h"

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

Machine& machine() {
  static Machine& m = *new Machine;
  return m;
}

void suspend() {
  Machine& m = machine();
  m.current->fiber.switch_to(*m.scheduler);
}

namespace {

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

}  // namespace svconv::simulate

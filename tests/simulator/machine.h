// The state of the simulated GPU, shared by scheduler.cpp, barriers.cpp and memory.cpp.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "fiber.h"
#include "scheduler.h"

namespace svconv::simulate {

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

Machine& machine();

// Leaves the running thread for the scheduler.
void suspend();

// The block's shared memory: fresh, and returned with a look at what lies behind it.
void allocate_shared();
void free_shared();

// Ends the process with a report of who waits where.
[[noreturn]] void fail_divergent();

}  // namespace svconv::simulate

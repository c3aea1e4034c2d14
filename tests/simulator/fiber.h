// Stacks to switch between, with what AddressSanitizer and ThreadSanitizer need to know of them.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// The scheduler is compiled without -fsanitize=thread, so that its own bookkeeping is not taken for a kernel's, and
// tells ThreadSanitizer of fibers, barriers and copies itself: SVCONV_TSAN says that it runs under it.
#ifdef SVCONV_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long size);
void __tsan_write_range(void* address, unsigned long size);
}
#else
inline void __tsan_acquire(void*) {}
inline void __tsan_release(void*) {}
inline void __tsan_read_range(void*, unsigned long) {}
inline void __tsan_write_range(void*, unsigned long) {}
#endif

#ifdef __x86_64__
extern "C" void svconv_switch_stack(void** save, void* load);
#endif

namespace svconv::simulate {

class Fiber {
 public:
  // The stack that runs already.
  Fiber() {
#ifdef SVCONV_TSAN
    tsan_ = __tsan_get_current_fiber();
#endif
  }

  // A stack on which `entry` runs at the first switch; `entry` calls entered() first and never returns.
  explicit Fiber(void (*entry)()) {
    constexpr size_t guard = 4096;
    size_ = size_t(1) << 18;
    void* memory = mmap(nullptr, guard + size_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
      std::perror("simulator: stack of a thread");
      std::abort();
    }
    bottom_ = static_cast<char*>(memory) + guard;
#ifdef __x86_64__
    // Six saved registers, the entry as return address, and the zero that ends a stack trace.
    void** top = reinterpret_cast<void**>(bottom_ + size_);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_ = top;
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = bottom_;
    context_.uc_stack.ss_size = size_;
    makecontext(&context_, entry, 0);
#endif
#ifdef SVCONV_TSAN
    tsan_ = __tsan_create_fiber(0);
#endif
  }

  Fiber(const Fiber&) = delete;

  // Leaves this fiber, which runs, for `next`.
  void switch_to(Fiber& next) {
    last() = this;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fake_stack_, next.bottom_, next.size_);
#endif
#ifdef SVCONV_TSAN
    constexpr unsigned no_sync = 1;
    __tsan_switch_to_fiber(next.tsan_, no_sync);
#endif
#ifdef __x86_64__
    svconv_switch_stack(&stack_, next.stack_);
#else
    swapcontext(&context_, &next.context_);
#endif
    entered(fake_stack_);
  }

  // Ends a switch, on the stack that was switched to.
  static void entered([[maybe_unused]] void* fake_stack = nullptr) {
#ifdef __SANITIZE_ADDRESS__
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    last()->bottom_ = static_cast<char*>(const_cast<void*>(bottom));
    last()->size_ = size;
#endif
  }

 private:
  static Fiber*& last() {
    static Fiber* fiber = nullptr;
    return fiber;
  }

  char* bottom_ = nullptr;
  size_t size_ = 0;
  void* fake_stack_ = nullptr;
#ifdef SVCONV_TSAN
  void* tsan_ = nullptr;
#endif
#ifdef __x86_64__
  void* stack_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace svconv::simulate

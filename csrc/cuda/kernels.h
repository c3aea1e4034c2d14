// The boundary of the CUDA kernels: plain pointers and sizes in, no torch. Used by the torch glue (ops.cpp) and by the
// simulator's tests.
#pragma once

#include "../problem.h"

namespace svconv::cuda {

// The facts about a GPU that the choice of a launch depends on.
struct Device {
  int processors = 132;       // multiprocessors
  int shared_bytes = 227 << 10;  // most dynamic shared memory of a block
};

// The kernel that computes a product and how the problem is cut among its blocks (launch.cu has the table).
struct Launch {
  enum class Path {
    generic,  // generic.cu: everything
    fma,      // fma_*.cu: float32, K <= 9
    band,     // band_*.cu: float16 and bfloat16 on tensor cores, K <= 13
    tf32,     // band_*_tf32.cu: float32 rounded to tf32 on tensor cores, 5 <= K <= 9
  };
  Path path = Path::generic;
  int columns = 1;  // of a block's tile, in groups of 8 pixels
  int rows = 1;     // of a block's tile, in rows of a thread's or a warp's share
  int splits = 1;   // of the channels among blocks: forward and grad_input
  int parts = 1;    // of a block's warps, which share a tile and take other channels each: grad_weight
  int stages = 1;   // chunks of channels in shared memory at a time
};

// What the busiest multiprocessor has to do in a launch, as far as it depends on how the problem is cut.
struct Work {
  double bytes;         // that pass from and to L2
  double exponentials;  // of weights
  double chunks;        // of channels that a block takes one after the other
};

// The launch is one of those that `choose` chooses from.
Work work_of(Product product, const Problem& problem, const Launch& launch, const Device& device);

// `tf32`: float32 may be rounded to tf32 before it is multiplied.
Launch choose(Product product, const Problem& problem, const Device& device, bool tf32);

// Queues the product on the stream (a cudaStream_t) of the current device, and returns the cudaError_t: that of an
// invalid value where the launch's path does not compute the problem's type.
int run(Product product, const Problem& problem, const Launch& launch, void* stream);

}  // namespace svconv::cuda

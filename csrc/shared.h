// What the CPU and the CUDA kernels both count with. Functions have internal linkage: the CPU's kernels are compiled
// several times with different flags, and no two copies may be merged.
#pragma once

#include "problem.h"

#ifdef __CUDACC__
#define SVCONV_HOST_DEVICE __host__ __device__
#else
#define SVCONV_HOST_DEVICE
#endif

namespace svconv {

// Numbers are summed in float, double in double.
template <class T>
struct AccumulateOf {
  using type = float;
};
template <>
struct AccumulateOf<double> {
  using type = double;
};
template <class T>
using Accumulate = typename AccumulateOf<T>::type;

SVCONV_HOST_DEVICE static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A dilated product is dilation^2 undilated ones on interleaved sub-images: every dilation-th row and column, from each
// of the first `rows` rows and `columns` columns on. The first one, of height x width pixels, is the largest; others
// lack a row or a column.
struct SubImages {
  int64_t rows, columns, height, width;
};

static inline SubImages sub_images(const Problem& p) {
  const int64_t d = p.dilation;
  return {d < p.height ? d : p.height, d < p.width ? d : p.width, divide_up(p.height, d), divide_up(p.width, d)};
}

}  // namespace svconv

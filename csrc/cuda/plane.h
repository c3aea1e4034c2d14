// One image, group and sub-image of a tensor. For all kernels.
#pragma once

#include "device.h"
#include "../problem.h"

namespace svconv::cuda {

// Element (channel, row, column) of a tensor as a block sees it.
template <class T>
struct Plane {
  T* data;
  int64_t c, h, w;
  __device__ __forceinline__ T* at(int64_t channel, int64_t row, int64_t column) const {
    return data + channel * c + row * h + column * w;
  }
};

template <class T>
__device__ __forceinline__ Plane<T> plane(const View& v, int64_t n, int64_t first_channel) {
  return {static_cast<T*>(v.data) + n * v.n + first_channel * v.c, v.c, v.h, v.w};
}

// A dilated product is dilation^2 undilated ones on interleaved sub-images: every dilation-th row and column from
// (row_phase, column_phase) on. Kernels for a tile see a sub-image and no dilation; their Problem has a sub-image's
// strides, so that these come from constant memory and take no registers.
inline Problem with_strides_of_images(Problem p) {
  for (View* v : {&p.data, &p.grad, &p.logits, &p.result}) v->h *= p.dilation, v->w *= p.dilation;
  return p;
}

struct Image {
  int64_t n, group;
  int row_phase, column_phase;
  int height, width;

  template <class T>
  __device__ __forceinline__ Plane<T> of(const View& v, const Problem& p, int64_t channels) const {
    const Plane<T> whole = plane<T>(v, n, group * channels);
    return {whole.data + row_phase * (v.h / p.dilation) + column_phase * (v.w / p.dilation), v.c, v.h, v.w};
  }

  template <class A>
  __device__ __forceinline__ Plane<A> lse(const Problem& p) const {
    A* const whole = static_cast<A*>(p.lse) + (n * p.groups + group) * p.height * p.width;
    return {whole + row_phase * p.width + column_phase, 0, p.width * p.dilation, p.dilation};
  }
};

// A block's share: a tile of `columns` x `rows` pixels of an image, from (y, x) on, and its part of the channels.
struct Tile {
  Image image;
  int y, x;
  int rows, columns;
  int split;
};

__host__ __device__ inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks of a launch: tiles of the largest sub-image, by sub-images, by splits. Neighbouring tiles are neighbours in
// time, so that their common columns and rows are found in L2.
inline int64_t count_tiles(const Problem& p, int rows, int columns, int splits) {
  const int64_t height = divide_up(p.height, p.dilation), width = divide_up(p.width, p.dilation);
  const int64_t row_phases = p.dilation < p.height ? p.dilation : p.height;
  const int64_t column_phases = p.dilation < p.width ? p.dilation : p.width;
  return p.batch * p.groups * row_phases * column_phases * divide_up(height, rows) * divide_up(width, columns) * splits;
}

__device__ __forceinline__ Tile tile_of_block(const Problem& p, int rows, int columns, int splits) {
  int64_t index = blockIdx.x;
  const auto take = [&index](int64_t size) {
    const int64_t digit = index % size;
    index /= size;
    return int(digit);
  };
  Tile tile;
  tile.rows = rows;
  tile.columns = columns;
  tile.x = take(divide_up(divide_up(p.width, p.dilation), columns)) * columns;
  tile.y = take(divide_up(divide_up(p.height, p.dilation), rows)) * rows;
  tile.split = take(splits);
  tile.image.column_phase = take(p.dilation < p.width ? p.dilation : p.width);
  tile.image.row_phase = take(p.dilation < p.height ? p.dilation : p.height);
  tile.image.group = take(p.groups);
  tile.image.n = index;
  tile.image.height = int(divide_up(p.height - tile.image.row_phase, p.dilation));
  tile.image.width = int(divide_up(p.width - tile.image.column_phase, p.dilation));
  return tile;
}

}  // namespace svconv::cuda

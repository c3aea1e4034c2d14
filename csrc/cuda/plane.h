// One image, group and sub-image of a tensor. For all kernels.
#pragma once

#include "device.h"
#include "../shared.h"

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

// A tensor as the kernels for a tile see it: the strides within a sub-image (SubImages), where nothing is dilated, and
// from the first pixel of one sub-image to that of the next below it or beside it.
struct ImageView {
  void* data;
  int64_t n, c, h, w, row_phase, column_phase;
};

// A problem as the kernels for a tile get it: flat, so that all of it comes from constant memory.
struct ImageProblem {
  int64_t groups, depth, height, width, dilation;  // depth: channels of a group; height, width: of the whole image
  bool normalize, renormalize;
  ImageView data, grad, logits, result;
  float* lse;

  explicit ImageProblem(const Problem& p)
      : groups(p.groups),
        depth(p.channels / p.groups),
        height(p.height),
        width(p.width),
        dilation(p.dilation),
        normalize(p.normalize),
        renormalize(p.renormalize),
        data(view(p.data, p.dilation)),
        grad(view(p.grad, p.dilation)),
        logits(view(p.logits, p.dilation)),
        result(view(p.result, p.dilation)),
        lse(static_cast<float*>(p.lse)) {}

 private:
  static ImageView view(const View& v, int64_t dilation) {
    return {v.data, v.n, v.c, v.h * dilation, v.w * dilation, v.h, v.w};
  }
};

// A block's sub-image of an image and a group.
struct Image {
  int64_t n, group;
  int row_phase, column_phase;
  int height, width;

  // `channels`: of a group of the tensor.
  template <class T>
  __device__ __forceinline__ Plane<T> of(const ImageView& v, int64_t channels) const {
    T* const whole = static_cast<T*>(v.data) + n * v.n + group * channels * v.c;
    return {whole + row_phase * v.row_phase + column_phase * v.column_phase, v.c, v.h, v.w};
  }

  __device__ __forceinline__ Plane<float> lse(const ImageProblem& p) const {
    float* const whole = p.lse + (n * p.groups + group) * p.height * p.width;
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

// Blocks of a launch: tiles of the largest sub-image, by sub-images, by splits. Neighbouring tiles are neighbours in
// time, so that their common columns and rows are found in L2.
inline int64_t count_tiles(const Problem& p, int rows, int columns, int splits) {
  const SubImages images = sub_images(p);
  const int64_t tiles = divide_up(images.height, rows) * divide_up(images.width, columns);
  return p.batch * p.groups * images.rows * images.columns * tiles * splits;
}

// The number of blocks fits 31 bits, and so do its factors: SubImages in 32 bits.
__device__ __forceinline__ Tile tile_of_block(const ImageProblem& p, int rows, int columns, int splits) {
  unsigned index = blockIdx.x;
  const auto take = [&index](unsigned size) {
    const unsigned digit = index % size;
    index /= size;
    return int(digit);
  };
  const auto share = [](int a, int b) { return (a + b - 1) / b; };
  const int height = int(p.height), width = int(p.width), dilation = int(p.dilation);
  Tile tile;
  tile.rows = rows;
  tile.columns = columns;
  tile.x = take(share(share(width, dilation), columns)) * columns;
  tile.y = take(share(share(height, dilation), rows)) * rows;
  tile.split = take(splits);
  tile.image.column_phase = take(dilation < width ? dilation : width);
  tile.image.row_phase = take(dilation < height ? dilation : height);
  tile.image.group = take(unsigned(p.groups));
  tile.image.n = index;
  tile.image.height = share(height - tile.image.row_phase, dilation);
  tile.image.width = share(width - tile.image.column_phase, dilation);
  return tile;
}

}  // namespace svconv::cuda

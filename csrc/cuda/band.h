// Tiles and shared memory of the tensor-core kernels: float16 and bfloat16 (K = 3 to 13), and float32 rounded to tf32
// (K = 5, 7, 9). docs/cuda.md has the derivation.
//
// A warp works on 8 pixels in each of a few rows. Its window is 16 columns wide, with K > 9 24, and starts
// band_halo(K) columns before the pixels.
#pragma once

#include "copy.h"
#include "paths.h"

namespace svconv::cuda {

constexpr int kPixels = 8;  // of a warp in a row

__host__ __device__ constexpr int band_halo(int K) { return K <= 9 ? kHalo : 2 * kHalo; }

// Columns from one row of channels to the next in a chunk of windows `width` wide. An even number of 16-byte vectors is
// swizzled (ChunkOrder), but for windows of K > 9, which are read across what would be exchanged: those get an odd
// number. float32 has no swizzle: 8 modulo 16.
template <class T>
__host__ __device__ constexpr int window_pitch(int K, int width) {
  return sizeof(T) == 4 || K > 9 ? width | 8 : width;
}

// The same of a chunk of a tile's own pixels.
template <class T>
__host__ __device__ constexpr int own_pitch(int width) {
  return sizeof(T) == 4 ? width | 8 : width;
}

// How a chunk of channels lies in shared memory, following the tensor, so that neither the lanes of a fragment nor
// those of a copy meet on a bank:
//   channels inside (channels-last):  [row][column][kChannels]
//   columns inside (NCHW):            [row][kChannels][columns]
// The 16-byte vectors of a pixel, or of a row of 16-bit numbers, are exchanged among each other.
template <class T, bool kInside, int kDepth>
struct ChunkOrder {
  static constexpr bool kChannelsInside = kInside;
  static constexpr int kChannels = kDepth;
  // The elements of one copy. It has 16 bytes, or 8 where columns of 16-bit numbers lie inside.
  static constexpr int kVector = sizeof(T) == 4 ? 4 : kInside ? 8 : 4;
  int columns;

  __device__ __forceinline__ explicit ChunkOrder(int pitch) : columns(pitch) {}

  __device__ __forceinline__ int at(int row, int column, int channel) const {
    constexpr int kLanes = 16 / sizeof(T);
    if constexpr (kInside) {
      return (row * columns + column) * kDepth + ((channel / kLanes) ^ swizzle(column)) * kLanes + channel % kLanes;
    } else return (row * kDepth + channel) * columns + (column ^ (swizzle(channel) * kLanes));
  }
  __device__ __forceinline__ int row_pitch() const { return columns * kDepth; }
  // The offset that lies `channels` (0 or half of them all) after `offset`, which lies in the first half of the
  // channels. A step is one bit of the vector's number, whatever is swizzled.
  __device__ __forceinline__ int step(int offset, int channels) const {
    return kInside ? offset ^ channels : offset + channels * columns;
  }
  // The offset of the same vector as many lines on (pixels, or channels where columns lie inside) as a warp copies at a
  // time. Where lines are swizzled that is a power of two, and changes single bits of the vector's number, but for
  // float32 with 32 channels inside.
  static constexpr bool kAdvances = !(kInside && sizeof(T) == 4 && kDepth == 32);
  __device__ __forceinline__ int advance(int offset, int lines) const {
    constexpr int kLanes = 16 / sizeof(T);
    if constexpr (kInside) return (offset ^ (swizzle(lines) * kLanes)) + lines * kDepth;
    else return (offset ^ (swizzle(lines) * kLanes)) + lines * columns;
  }

 private:
  // The number of a vector of this column, or of this channel where columns lie inside, is combined with this one by
  // exclusive or. 8 neighbours fall on different banks, whether they are 1, 2 or 4 vectors apart, or an odd number.
  __device__ __forceinline__ int swizzle(unsigned line) const {
    if constexpr (kInside && sizeof(T) == 4) return kDepth == 32 ? line / 4 % 4 * 2 : line / 2 % 2 * 2;
    else if constexpr (kInside) return line / 2 % 4;
    else if constexpr (sizeof(T) == 4) return 0;
    else return columns % 32 == 0 ? line / 2 % 4 : columns % 16 == 0 ? line / 4 % 2 : 0;
  }
};

// The pixels that a chunk holds, rows x width from (y, x) of the image on, and which of them this lane copies. A warp
// copies rows; a row has lines, which are pixels with all their channels, or channels with all their columns.
template <class Order>
struct Patch {
  static constexpr int kVector = Order::kVector;
  const Order& order;
  const Image& image;
  int y, x, rows, width;
  // At a time a warp copies `lines` lines; the lane is at element `at` of the `line`th of them.
  int lines, line, at;

  __device__ __forceinline__ Patch(const Order& order, const Image& image, int y, int x, int rows, int width)
      : order(order), image(image), y(y), x(x), rows(rows), width(width) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned vectors = unsigned(Order::kChannelsInside ? Order::kChannels : width) / kVector;
    lines = 32u / vectors;
    line = lane / vectors;
    at = lane % vectors * kVector;
  }

  // Calls f(offset in shared memory, address in the tensor, valid) for every vector of channels [channel, channel +
  // kChannels). What a row's vectors share is computed once; a lane goes from one to the next by equal steps.
  template <class T, class F>
  __device__ __forceinline__ void for_each_vector(const Plane<T>& plane, int channel, int depth, const F& f) const {
    if (line >= lines) return;
    const int c = Order::kChannelsInside ? at : line, j = Order::kChannelsInside ? line : at;
    const int all = Order::kChannelsInside ? width : Order::kChannels;
    const int64_t step = lines * (Order::kChannelsInside ? plane.w : plane.c);
#pragma unroll 1
    for (int i = threadIdx.x / 32; i < rows; i += blockDim.x / 32) {
      const bool inside_row = unsigned(y + i) < unsigned(image.height);
      const bool valid = inside_row && (Order::kChannelsInside ? channel + c < depth : inside_columns(j));
      T* address = plane.at(channel + c, y + i, x + j);
      int offset = order.at(i, j, c);
#pragma unroll 1
      for (int n = line; n < all; n += lines) {
        f(offset, address, valid && (Order::kChannelsInside ? inside_columns(n) : channel + n < depth));
        offset = Order::kAdvances ? order.advance(offset, lines) : order.at(i, n + lines, c);
        address += step;
      }
    }
  }

  // The same for single elements, of tensors that have no vectors.
  template <class T, class F>
  __device__ __forceinline__ void for_each_element(const Plane<T>& plane, int channel, int depth, const F& f) const {
    constexpr int kChannels = Order::kChannels;
    const auto call = [&](int i, int j, int c) {
      f(order.at(i, j, c), plane.at(channel + c, y + i, x + j), inside(image, y + i, x + j) && channel + c < depth);
    };
    if constexpr (Order::kChannelsInside) {
#pragma unroll 1
      for (Walk walk(threadIdx.x, blockDim.x, width * kChannels); walk.line < rows; walk.next())
        call(walk.line, walk.item / kChannels, walk.item % kChannels);
    } else {
#pragma unroll 1
      for (Walk walk(threadIdx.x, blockDim.x, width); walk.line < rows * kChannels; walk.next())
        call(walk.line / kChannels, walk.item, walk.line % kChannels);
    }
  }

 private:
  __device__ __forceinline__ bool inside_columns(int j) const { return unsigned(x + j) < unsigned(image.width); }
};

// Copies a chunk of a tensor to shared memory, with zeros outside the image and past `depth`.
template <class Order, class T>
__device__ __forceinline__ void load_chunk(T* to, const Patch<Order>& patch, const Plane<const T>& from, int channel,
                                           int depth, bool vectors) {
  if (vectors)
    patch.for_each_vector(from, channel, depth, [&](int offset, const T* source, bool valid) {
      copy_async<Order::kVector * sizeof(T)>(to + offset, source, valid);
    });
  else
    patch.for_each_element(from, channel, depth, [&](int offset, const T* source, bool valid) {
      copy_element(to + offset, source, valid);
    });
}

template <int kBytes>
struct alignas(kBytes) Bytes {
  uint32_t words[kBytes / 4];
};

// Copies a chunk from shared memory to a tensor, but for what lies outside the image and past `depth`.
template <class Order, class T>
__device__ __forceinline__ void store_chunk(const Plane<T>& to, const Patch<Order>& patch, const T* from, int channel,
                                            int depth, bool vectors) {
  using Vector = Bytes<Order::kVector * sizeof(T)>;
  if (vectors)
    patch.for_each_vector(to, channel, depth, [&](int offset, T* target, bool valid) {
      if (valid) *reinterpret_cast<Vector*>(target) = *reinterpret_cast<const Vector*>(from + offset);
    });
  else
    patch.for_each_element(to, channel, depth, [&](int offset, T* target, bool valid) {
      if (valid) *target = from[offset];
    });
}

// The buffers of a kernel's chunks in shared memory, used in turns.
struct Ring {
  int stages, now = 0;
  __device__ __forceinline__ explicit Ring(int stages) : stages(stages) {}
  // The buffer of the chunk `ahead` after the one at hand, less than `stages`.
  __device__ __forceinline__ int at(int ahead) const {
    return now + ahead < stages ? now + ahead : now + ahead - stages;
  }
  __device__ __forceinline__ void next() { now = at(1); }
};

// Waits for all but the latest `stages` - 2 chunks.
__device__ __forceinline__ void wait_for_chunk(int stages) {
  if (stages > 2) cp_async_wait<1>();
  else cp_async_wait<0>();
}

// The numbers of one copy of logits.
template <class T>
constexpr int kLogitsVector = 8 / sizeof(T);

// Taps of a tile with `halo` columns on either side. A warp that gathers its band takes one number from each plane.
// Planes of 16-bit numbers lie 4 words apart modulo 32 banks, and no two lanes meet. Those of float32 lie 2 words
// apart: no two lanes meet in forward, two at most in grad_input. (None would with planes of an odd number of words,
// which could only be copied one number at a time.)
template <class T>
__host__ __device__ inline Taps band_taps(int rows, int columns, int halo) {
  constexpr int kLine = 128 / sizeof(T);
  const int width = columns + 2 * halo;
  return {rows, width, int(divide_up(rows * width, kLine) * kLine + (sizeof(T) == 4 ? 2 : 8))};
}

}  // namespace svconv::cuda

// The products on windows that aren't plain where a group has few channels, such as flow or disparity: a vector holds
// pixels, for channels would not fill one. Columns are laid out as each tap reads them, once for all rows of taps that
// read the row, and logits are read once, where they lie.
#pragma once

#include "windowed_gradient.h"

namespace svconv::cpu::SVCONV_ISA {
namespace {

// Channels of a group up to which a vector holds pixels. With more, vectors of channels share their loads of weights.
constexpr int64_t kNarrow = 8;

// What forward and grad_weight share: the rows of the input as each tap reads them, and the logits of a row.
template <class T>
class NarrowRows {
 public:
  using A = Accumulate<T>;
  static constexpr int L = kLanes<A>;

  NarrowRows(const Windowed<T>& own, Arena& arena)
      : own_(own),
        lo_(own.columns.centre(own.item.column) - own.r),
        count_(own.columns.centre(own.item.column + own.item.columns - 1) + own.r + 1 - lo_),
        pitch_(divide_up(own.item.columns, L) * L),
        apart_(own.K * pitch_),
        base_(own.rows.centre(own.item.row) - own.r),
        packed_(base_),
        offsets_(arena.array<int64_t>(own.item.columns)),
        line_(arena.array<A>(own.depth * count_)),
        x_(arena.array<A>(own.K * own.depth * apart_)),
        taps_(arena.array<A>(own.area * pitch_)) {}

  int64_t pitch() const { return pitch_; }
  int64_t apart() const { return apart_; }

  void begin() {
    for (int64_t j = 0; j < own_.item.columns; ++j)
      offsets_[j] = own_.columns.centre(own_.item.column + j) - own_.r - lo_;
    fill(x_, own_.K * own_.depth * apart_, A(0));
  }

  // Packs what the windows of a row hold that those before did not.
  void pack_for(const Plane<const T>& source, int64_t row) {
    const int64_t K = own_.K, columns = own_.item.columns;
    for (const int64_t top = own_.rows.centre(row) + own_.r; packed_ <= top; ++packed_) {
      pack_positions(line_, count_, source, 0, own_.depth, own_.rows.at(packed_), own_.columns, lo_, count_, true);
      A* to = x_ + (packed_ - base_) % K * own_.depth * apart_;
      for (int64_t c = 0; c < own_.depth; ++c)
        for (int64_t s = 0; s < K; ++s) {
          // Tap s reads K - 1 - s columns from the window's first.
          const A* from = line_ + c * count_ + K - 1 - s;
          A* tap = to + c * apart_ + s * pitch_;
          for (int64_t j = 0; j < columns; ++j) tap[j] = from[offsets_[j]];
        }
    }
    // Logits that lie in a row are read where they are, others are packed.
    row_ = static_cast<const T*>(own_.logits.at(0, row, own_.item.column));
    direct_ = own_.logits.w == 1 && !(own_.p.normalize && own_.p.renormalize);
    if (!direct_) own_.read_logits_of(taps_, pitch_, row);
    else if (const int64_t whole = columns / L * L; whole < columns)
      pack(taps_ + whole, pitch_, row_ + whole, 1, own_.logits.c, Span{0, columns - whole, L},
           Span{0, own_.area, own_.area}, A(0));
  }

  // The logits of a tap of the convolution, at a vector of pixels.
  SVCONV_INLINE Vec<A> logits(int64_t tap, int64_t l) const {
    const int64_t k = own_.stored(tap);
    if (direct_ && l + L <= own_.item.columns) return widen_n<L>(row_ + k * own_.logits.c + l);
    return vload(taps_ + k * pitch_ + l);
  }

  // What the first tap of row t of taps of this row's windows reads of the first channel.
  const A* reads(int64_t row, int64_t t) const {
    return x_ + (own_.rows.centre(row) + own_.r - t - base_) % own_.K * own_.depth * apart_;
  }

 private:
  const Windowed<T>& own_;
  const int64_t lo_, count_, pitch_, apart_, base_;
  int64_t packed_;
  int64_t* const offsets_;
  A *const line_, *const x_, *const taps_;
  const T* row_ = nullptr;
  bool direct_ = false;
};

// One row of forward for CHANNELS channels from `c` on: out [CHANNELS, pitch], and the log-sum-exp.
template <class T, int CHANNELS, class A = Accumulate<T>>
void narrow_row(A* out, A* lse, const NarrowRows<T>& from, const Windowed<T>& own, int64_t row, int64_t c) {
  constexpr int L = kLanes<A>;
  int64_t first, last;
  own.tap_rows(row, first, last);
  for (int64_t l = 0; l < from.pitch(); l += L) {
    Vec<A> acc[CHANNELS > 0 ? CHANNELS : 1] = {}, top = {}, sum = {};
    if (own.p.normalize) {
      top = from.logits(0, l);
      for (int64_t k = 1; k < own.area; ++k) top = vmax(from.logits(k, l), top);
    }
    for (int64_t t = 0; t < own.K; ++t) {
      const A* x = from.reads(row, t) + c * from.apart() + l;
      for (int64_t s = 0; s < own.K; ++s) {
        Vec<A> weight = from.logits(t * own.K + s, l);
        if (own.p.normalize) sum += weight = vexp(weight - top);
        if (t < first || t >= last) continue;
        for (int i = 0; i < CHANNELS; ++i) acc[i] += weight * vload(x + i * from.apart() + s * from.pitch());
      }
    }
    for (int i = 0; i < CHANNELS; ++i)
      vstore(out + i * from.pitch() + l, own.p.normalize ? acc[i] * (A(1) / sum) : acc[i]);
    if (lse)
      for (int i = 0; i < L; ++i) lse[l + i] = top[i] + std::log(sum[i]);
  }
}

template <class T>
void narrow_forward(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, p.scale);
  const int64_t depth = own.depth;
  struct Arrays { NarrowRows<T> rows; A *out, *lse_row; };
  auto arrays = in_scratch([&](Arena& arena) {
    NarrowRows<T> rows(own, arena);
    const int64_t pitch = rows.pitch();
    return Arrays{rows, arena.array<A>(std::max<int64_t>(depth, 1) * pitch), arena.array<A>(pitch)};
  });
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  const int64_t pitch = arrays.rows.pitch();
  arrays.rows.begin();
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    arrays.rows.pack_for(source, row);
    A* const lse = p.lse && p.normalize ? arrays.lse_row : nullptr;
    // The log-sum-exp is asked for even without a channel.
    for (int64_t c = 0; c == 0 || c < depth; c += 4) {
      A* out = arrays.out + c * pitch;
      switch (std::min<int64_t>(4, depth - c)) {
        case 0: narrow_row<T, 0>(out, lse, arrays.rows, own, row, c); break;
        case 1: narrow_row<T, 1>(out, lse, arrays.rows, own, row, c); break;
        case 2: narrow_row<T, 2>(out, lse, arrays.rows, own, row, c); break;
        case 3: narrow_row<T, 3>(out, lse, arrays.rows, own, row, c); break;
        case 4: narrow_row<T, 4>(out, lse, arrays.rows, own, row, c); break;
      }
    }
    if (lse)
      for (int64_t j = 0; j < item.columns; ++j) *own.lse.at(0, row, item.column + j) = lse[j];
    unpack(result.at(0, row, item.column), result.w, result.c, arrays.out, pitch, item.columns, depth);
  }
}

template <class T>
void narrow_grad_weight(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  constexpr int L = kLanes<A>;
  const Windowed<T> own(p, item, p.scale);
  const int64_t K = own.K, area = own.area, depth = own.depth;
  struct Arrays { NarrowRows<T> rows; A *g, *lse_row, *dw; };
  auto arrays = in_scratch([&](Arena& arena) {
    NarrowRows<T> rows(own, arena);
    const int64_t pitch = rows.pitch();
    return Arrays{rows, arena.array<A>(depth * pitch), arena.array<A>(pitch), arena.array<A>(area * pitch)};
  });
  const auto source = plane<const T>(p.data, p, item, item.group * depth);
  const auto grad = plane<const T>(p.grad, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * area);
  const int64_t pitch = arrays.rows.pitch();
  arrays.rows.begin();
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    arrays.rows.pack_for(source, row);
    pack(arrays.g, pitch, grad.at(0, row, item.column), grad.w, grad.c, Span{0, item.columns, pitch},
         Span{0, depth, depth}, A(0));
    if (p.normalize)
      pack(arrays.lse_row, pitch, static_cast<const A*>(own.lse.at(0, row, item.column)), own.lse.w, 0,
           Span{0, item.columns, pitch}, Span{0, 1, 1}, A(0));
    int64_t first, last;
    own.tap_rows(row, first, last);
    for (int64_t l = 0; l < pitch; l += L) {
      Vec<A> delta = {};
      for (int64_t k = 0; k < area; ++k) {
        const int64_t t = k / K;
        Vec<A> sum = {};
        if (t >= first && t < last) {
          const A* x = arrays.rows.reads(row, t) + k % K * pitch + l;
          for (int64_t c = 0; c < depth; ++c)
            sum += vload(arrays.g + c * pitch + l) * vload(x + c * arrays.rows.apart());
        }
        vstore(arrays.dw + own.stored(k) * pitch + l, sum);
        if (p.normalize) delta += vexp(arrays.rows.logits(k, l) - vload(arrays.lse_row + l)) * sum;
      }
      if (!p.normalize) continue;
      for (int64_t k = 0; k < area; ++k) {
        A* dw = arrays.dw + own.stored(k) * pitch + l;
        vstore(dw, vexp(arrays.rows.logits(k, l) - vload(arrays.lse_row + l)) * (vload(dw) - delta));
      }
    }
    unpack(result.at(0, row, item.column), result.w, result.c, arrays.dw, pitch, item.columns, area);
  }
}

// Gradients times weights are summed up for every tap and place of a row, then brought to the pixels that they read.
template <class T>
void narrow_grad_input(const Problem& p, const Item& item) {
  using A = Accumulate<T>;
  const Windowed<T> own(p, item, 1);
  const int64_t K = own.K, depth = own.depth;
  const Axis &rows = own.rows, &columns = own.columns;
  int64_t lo = columns.places(), hi = 0;
  for (int64_t j = 0; j < item.columns; ++j) {
    const Readers by = readers(columns, item.column + j);
    lo = std::min(lo, by.first);
    hi = std::max(hi, by.last);
  }
  const int64_t count = std::max<int64_t>(0, hi - lo), pitch = divide_up(count, kLanes<A>) * kLanes<A>;

  struct Arrays {
    A *taps, *lse_row, *g, *sums, *out;
    int32_t* reads;
  };
  const auto arrays = in_scratch([&](Arena& arena) {
    return Arrays{arena.array<A>(K * pitch), arena.array<A>(pitch), arena.array<A>(depth * pitch),
                  arena.array<A>(depth * K * pitch), arena.array<A>(depth * item.columns),
                  arena.array<int32_t>(K * count)};
  });
  const auto grad = plane<const T>(p.data, p, item, item.group * depth);
  const auto result = plane<T>(p.result, p, item, item.group * depth);
  // The column of the item that a tap, in the order of the logits, reads for a place; -1 for none of it.
  for (int64_t s = 0; s < K; ++s)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t x = columns.read(lo + j, p.correlation ? K - 1 - s : s) - item.column;
      arrays.reads[s * count + j] = x >= 0 && x < item.columns ? int32_t(x) : -1;
    }
  for (int64_t row = item.row; row < item.row + item.rows; ++row) {
    fill(arrays.sums, depth * K * pitch, A(0));
    const Readers by = readers(rows, row);
    for (int64_t i = by.first; i < by.last; ++i) {
      pack(arrays.g, pitch, grad.at(0, i, lo), grad.w, grad.c, Span{0, count, pitch}, Span{0, depth, depth}, A(0));
      if (p.normalize)
        pack(arrays.lse_row, pitch, static_cast<const A*>(own.lse.at(0, i, lo)), own.lse.w, 0, Span{0, count, pitch},
             Span{0, 1, 1}, A(0));
      for (int64_t t = 0; t < K; ++t) {
        if (rows.read(i, t) != row) continue;
        const int64_t block = p.correlation ? K - 1 - t : t;
        pack(arrays.taps, pitch, static_cast<const T*>(own.logits.at(block * K, i, lo)), own.logits.w, own.logits.c,
             Span{0, count, pitch}, Span{0, K, K}, A(0));
        for (int64_t s = 0; s < K; ++s) {
          A* taps = arrays.taps + s * pitch;
          if (p.normalize) exponentiate(taps, taps, arrays.lse_row, pitch);
          for (int64_t c = 0; c < depth; ++c)
            for (int64_t l = 0; l < pitch; l += kLanes<A>) {
              A* sum = arrays.sums + (c * K + s) * pitch + l;
              vstore(sum, vload(sum) + vload(taps + l) * vload(arrays.g + c * pitch + l));
            }
        }
      }
    }
    fill(arrays.out, depth * item.columns, A(0));
    for (int64_t s = 0; s < K; ++s)
      for (int64_t j = 0; j < count; ++j) {
        const int64_t x = arrays.reads[s * count + j];
        if (x < 0) continue;
        for (int64_t c = 0; c < depth; ++c) arrays.out[c * item.columns + x] += arrays.sums[(c * K + s) * pitch + j];
      }
    unpack(result.at(0, row, item.column), result.w, result.c, arrays.out, item.columns, item.columns, depth);
  }
}

template <class T>
void run_windowed(Product product, const Problem& p, const Plan& plan, int64_t begin, int64_t end) {
  const Problem frame = frame_of(product, p);
  const bool narrow = p.channels / p.groups <= kNarrow;
  for (int64_t index = begin; index < end; ++index) {
    Item item;
    if (!item_at(frame, plan, index, item)) continue;
    switch (product) {
      case Product::forward: narrow ? narrow_forward<T>(p, item) : window_forward<T>(p, item); break;
      case Product::grad_input: narrow ? narrow_grad_input<T>(p, item) : window_grad_input<T>(p, item); break;
      case Product::grad_weight: narrow ? narrow_grad_weight<T>(p, item) : window_grad_weight<T>(p, item); break;
    }
  }
}

}  // namespace
}  // namespace svconv::cpu::SVCONV_ISA

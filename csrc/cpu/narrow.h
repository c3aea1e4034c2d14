// The products on windows that aren't plain where a group has few channels, such as flow or disparity: a vector holds
// pixels, for channels would not fill one. Columns that windows don't move along by one are laid out as each tap reads
// them, once for all rows of taps that read the row, and logits are read once, where they lie.
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
        in_a_row_(count_ == own.item.columns + own.K - 1 && moves_by_one()),
        apart_(in_a_row_ ? pitch_ + own.K - 1 : own.K * pitch_),
        base_(own.rows.centre(own.item.row) - own.r),
        packed_(base_),
        offsets_(arena.array<int64_t>(own.item.columns)),
        line_(arena.array<A>(in_a_row_ ? 0 : own.depth * count_)),
        x_(arena.array<A>(own.K * own.depth * apart_)),
        taps_(arena.array<A>(own.area * pitch_)),
        reads_(arena.array<const A*>(own.K)) {}

  int64_t pitch() const { return pitch_; }
  int64_t apart() const { return apart_; }
  // From what a tap reads to what the next one of its row reads.
  int64_t step() const { return in_a_row_ ? -1 : pitch_; }

  void begin() {
    for (int64_t j = 0; j < own_.item.columns; ++j)
      offsets_[j] = own_.columns.centre(own_.item.column + j) - own_.r - lo_;
    fill(x_, own_.K * own_.depth * apart_, A(0));
  }

  // Packs what the windows of a row hold that those before did not.
  void pack_for(const Plane<const T>& source, int64_t row) {
    const int64_t K = own_.K, columns = own_.item.columns;
    for (const int64_t top = own_.rows.centre(row) + own_.r; packed_ <= top; ++packed_) {
      A* to = x_ + (packed_ - base_) % K * own_.depth * apart_;
      A* const line = in_a_row_ ? to : line_;
      const int64_t size = in_a_row_ ? apart_ : count_;
      pack_positions(line, size, source, 0, own_.depth, own_.rows.at(packed_), own_.columns, lo_, count_, true);
      if (in_a_row_) continue;
      for (int64_t c = 0; c < own_.depth; ++c)
        for (int64_t s = 0; s < K; ++s) {
          // Tap s reads K - 1 - s columns from the window's first.
          const A* from = line + c * count_ + K - 1 - s;
          A* tap = to + c * apart_ + s * pitch_;
          for (int64_t j = 0; j < columns; ++j) tap[j] = from[offsets_[j]];
        }
    }
    for (int64_t t = 0; t < K; ++t) {
      const int64_t slot = (own_.rows.centre(row) + own_.r - t - base_) % K;
      reads_[t] = x_ + slot * own_.depth * apart_ + (in_a_row_ ? K - 1 : 0);
    }
    // Logits that lie in a row are read where they are, others are packed.
    row_ = static_cast<const T*>(own_.logits.at(0, row, own_.item.column));
    direct_ = own_.logits.w == 1 && !(own_.p.normalize && own_.p.renormalize);
    if (!direct_) own_.read_logits_of(taps_, pitch_, row);
    else if (const int64_t whole = columns / L * L; whole < columns)
      pack(taps_ + whole, pitch_, row_ + whole, 1, own_.logits.c, Span{0, columns - whole, L},
           Span{0, own_.area, own_.area}, A(0));
  }

  // Calls visit(logits, step) with where a vector of pixels has its logits: that of the first tap of the convolution,
  // and from there to that of the next.
  template <class Visit>
  SVCONV_INLINE void logits(int64_t l, const Visit& visit) const {
    const int64_t first = own_.stored(0), step = own_.p.correlation ? -1 : 1;
    if (direct_ && l + L <= own_.item.columns) visit(row_ + first * own_.logits.c + l, step * own_.logits.c);
    else visit(static_cast<const A*>(taps_ + first * pitch_ + l), step * pitch_);
  }

  // What the first tap of row t of taps of this row's windows reads of the first channel.
  const A* reads(int64_t t) const { return reads_[t]; }

 private:
  bool moves_by_one() const {
    for (int64_t j = 1; j < own_.item.columns; ++j)
      if (own_.columns.centre(own_.item.column + j) != own_.columns.centre(own_.item.column) + j) return false;
    return true;
  }

  const Windowed<T>& own_;
  const int64_t lo_, count_, pitch_;
  const bool in_a_row_;
  const int64_t apart_, base_;
  int64_t packed_;
  int64_t* const offsets_;
  A *const line_, *const x_, *const taps_;
  const A** const reads_;
  const T* row_ = nullptr;
  bool direct_ = false;
};

// One row of forward for CHANNELS channels from `c` on: out [CHANNELS, pitch], and the log-sum-exp.
template <class T, int CHANNELS, class A = Accumulate<T>>
void narrow_row(A* out, A* lse, const NarrowRows<T>& from, const Windowed<T>& own, int64_t row, int64_t c) {
  constexpr int L = kLanes<A>;
  const int64_t K = own.K, area = own.area, pitch = from.pitch(), apart = from.apart(), between = from.step();
  const bool normalize = own.p.normalize;
  int64_t first, last;
  own.tap_rows(row, first, last);
  for (int64_t l = 0; l < pitch; l += L)
    from.logits(l, [&](const auto* logits, int64_t step) {
      Vec<A> acc[CHANNELS > 0 ? CHANNELS : 1] = {}, top = {}, sum = {};
      if (normalize) {
        top = widen_n<L>(logits);
        for (int64_t k = 1; k < area; ++k) top = vmax(widen_n<L>(logits + k * step), top);
      }
      for (int64_t t = 0; t < K; ++t) {
        const bool inside = t >= first && t < last;
        const A* x = from.reads(t) + c * apart + l;
        for (int64_t s = 0; s < K; ++s, logits += step, x += between) {
          Vec<A> weight = widen_n<L>(logits);
          if (normalize) sum += weight = vexp(weight - top);
          if (inside)
            for (int i = 0; i < CHANNELS; ++i) acc[i] += weight * vload(x + i * apart);
        }
      }
      const Vec<A> factor = normalize ? A(1) / sum : Vec<A>{} + A(1);
      for (int i = 0; i < CHANNELS; ++i) vstore(out + i * pitch + l, acc[i] * factor);
      if (lse) vstore(lse + l, top + vlog(sum));
    });
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
  struct Arrays { NarrowRows<T> rows; A *g, *lse_row, *dw, *weights; };
  auto arrays = in_scratch([&](Arena& arena) {
    NarrowRows<T> rows(own, arena);
    const int64_t pitch = rows.pitch();
    return Arrays{rows, arena.array<A>(depth * pitch), arena.array<A>(pitch), arena.array<A>(area * pitch),
                  arena.array<A>(area * L)};
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
    const int64_t apart = arrays.rows.apart(), between = arrays.rows.step();
    for (int64_t l = 0; l < pitch; l += L)
      arrays.rows.logits(l, [&](const auto* logits, int64_t step) {
        const Vec<A> lse = vload(arrays.lse_row + l);
        Vec<A> delta = {};
        A *weight = arrays.weights, *const dw = arrays.dw + own.stored(0) * pitch + l;
        const int64_t dw_step = p.correlation ? -pitch : pitch;
        for (int64_t t = 0; t < K; ++t) {
          const bool inside = t >= first && t < last;
          const A* x = arrays.rows.reads(t) + l;
          for (int64_t s = 0; s < K; ++s, logits += step, x += between, weight += L) {
            Vec<A> sum = {};
            if (inside)
              for (int64_t c = 0; c < depth; ++c) sum += vload(arrays.g + c * pitch + l) * vload(x + c * apart);
            vstore(dw + (t * K + s) * dw_step, sum);
            if (!p.normalize) continue;
            const Vec<A> w = vexp(widen_n<L>(logits) - lse);
            vstore(weight, w);
            delta += w * sum;
          }
        }
        if (!p.normalize) return;
        for (int64_t k = 0; k < area; ++k) {
          A* to = dw + k * dw_step;
          vstore(to, vload(arrays.weights + k * L) * (vload(to) - delta));
        }
      });
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

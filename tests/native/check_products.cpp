// The three products against plain loops in double, without Python: for machines reached by a cross compiler
// and an emulator only (make aarch64). Exit status 1 if any result is wrong.
#include "kernels.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using svconv::cpu::Problem;
using svconv::cpu::Product;
using svconv::cpu::Type;
using svconv::cpu::View;

#ifdef __aarch64__
using Half = __fp16;
#else
using Half = _Float16;
#endif

struct Brain {
  uint16_t bits;
  Brain(double x = 0) {
    const float f = float(x);
    uint32_t b;
    std::memcpy(&b, &f, 4);
    bits = uint16_t((b + 0x7fff + ((b >> 16) & 1)) >> 16);
  }
  operator double() const {
    const uint32_t b = uint32_t(bits) << 16;
    float f;
    std::memcpy(&f, &b, 4);
    return f;
  }
};

struct Options {
  int64_t kernel, dilation, groups;
  bool normalize, renormalize, channels_last;
};

constexpr int64_t N = 2, C = 6, H = 7, W = 15;

// (N, channels, H, W) in either layout.
template <class T>
struct Array {
  int64_t channels, c, h, w;
  std::vector<T> data;
  Array(int64_t channels, bool last)
      : channels(channels), c(last ? 1 : H * W), h(last ? W * channels : W), w(last ? channels : 1),
        data(N * channels * H * W, T(NAN)) {}
  T& at(int64_t n, int64_t k, int64_t y, int64_t x) { return data[n * channels * H * W + k * c + y * h + x * w]; }
  View view() { return {data.data(), channels * H * W, c, h, w}; }
  void fill() {
    for (T& x : data) x = T(double(std::rand()) / RAND_MAX * 2 - 1);
  }
};

bool failed = false;

void compare(const char* type, const char* what, double got, double want, double tolerance) {
  const double error = std::abs(got - want) / (1 + std::abs(want));
  if (error <= tolerance) return;
  if (!failed) std::printf("%s, %s: expected %g, got %g\n", type, what, want, got);
  failed = true;
}

template <class T, class Accumulation>
void check(Type type, const char* name, const Options& o, double tolerance) {
  const int64_t K = o.kernel, area = K * K, r = K / 2, depth = C / o.groups;
  Array<T> input(C, o.channels_last), grad(C, o.channels_last), logits(o.groups * area, o.channels_last);
  Array<T> out(C, o.channels_last), grad_input(C, o.channels_last), grad_logits(o.groups * area, o.channels_last);
  input.fill();
  grad.fill();
  logits.fill();
  std::vector<Accumulation> lse(N * o.groups * H * W);

  Problem p;
  p.type = type;
  p.batch = N, p.channels = C, p.height = H, p.width = W;
  p.groups = o.groups, p.kernel = K, p.dilation = o.dilation;
  p.normalize = o.normalize, p.renormalize = o.renormalize;
  p.logits = logits.view();
  p.lse = o.normalize ? lse.data() : nullptr;
  const auto run = [&](Product product, View data, View result) {
    Problem q = p;
    q.data = data, q.result = result, q.grad = grad.view();
    const svconv::cpu::Plan plan = svconv::cpu::plan(product, q, 2);
    svconv::cpu::run(product, q, plan, 0, plan.items);
  };
  run(Product::forward, input.view(), out.view());
  run(Product::grad_input, grad.view(), grad_input.view());
  run(Product::grad_weight, input.view(), grad_logits.view());

  std::vector<double> want_grad_input(N * C * H * W);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t g = 0; g < o.groups; ++g)
      for (int64_t i = 0; i < H; ++i)
        for (int64_t j = 0; j < W; ++j) {
          std::vector<double> w(area), dw(area);
          double total = 0, delta = 0;
          for (int64_t k = 0; k < area; ++k) {
            const int64_t y = i - o.dilation * (k / K - r), x = j - o.dilation * (k % K - r);
            const bool inside = y >= 0 && y < H && x >= 0 && x < W;
            const double logit = double(logits.at(n, g * area + k, i, j));
            w[k] = !o.normalize ? logit : o.renormalize && !inside ? 0 : std::exp(logit);
            total += w[k];
          }
          for (int64_t k = 0; k < area && o.normalize; ++k) w[k] /= total;
          for (int64_t c = g * depth; c < (g + 1) * depth; ++c) {
            double sum = 0;
            for (int64_t k = 0; k < area; ++k) {
              const int64_t y = i - o.dilation * (k / K - r), x = j - o.dilation * (k % K - r);
              if (y < 0 || y >= H || x < 0 || x >= W) continue;
              sum += w[k] * double(input.at(n, c, y, x));
              dw[k] += double(grad.at(n, c, i, j)) * double(input.at(n, c, y, x));
              want_grad_input[((n * C + c) * H + y) * W + x] += w[k] * double(grad.at(n, c, i, j));
            }
            compare(name, "out", double(out.at(n, c, i, j)), sum, tolerance);
          }
          for (int64_t k = 0; k < area; ++k) delta += w[k] * dw[k];
          for (int64_t k = 0; k < area; ++k)
            compare(name, "grad_logits", double(grad_logits.at(n, g * area + k, i, j)),
                    o.normalize ? w[k] * (dw[k] - delta) : dw[k], tolerance);
        }
  for (int64_t n = 0; n < N; ++n)
    for (int64_t c = 0; c < C; ++c)
      for (int64_t y = 0; y < H; ++y)
        for (int64_t x = 0; x < W; ++x)
          compare(name, "grad_input", double(grad_input.at(n, c, y, x)),
                  want_grad_input[((n * C + c) * H + y) * W + x], tolerance);
}

}  // namespace

int main() {
  for (int64_t kernel : {3, 9, 11})
    for (int64_t dilation : {1, 2})
      for (int mode = 0; mode < 3; ++mode)
        for (bool channels_last : {false, true}) {
          const Options o{kernel, dilation, 2 * dilation - 1, mode < 2, mode == 1, channels_last};
          check<float, float>(Type::float32, "float32", o, 1e-5);
          check<double, double>(Type::float64, "float64", o, 1e-13);
          check<Half, float>(Type::float16, "float16", o, 1e-3);
          check<Brain, float>(Type::bfloat16, "bfloat16", o, 8e-3);
        }
  if (!failed) std::printf("the three products are right in four types on %s\n", svconv::cpu::active_instruction_set());
  return failed;
}

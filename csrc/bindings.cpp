// svconv._C: what was built, which instruction set runs, and forward on NumPy arrays. Free of torch.
#include "cpu/kernels.h"
#include "overlap.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace py = pybind11;

namespace {

using svconv::cpu::Plan;
using svconv::cpu::Problem;
using svconv::cpu::Product;
using svconv::cpu::Type;
using svconv::cpu::View;

py::dict build_info() {
  py::dict info;
  info["version"] = SVCONV_VERSION;
  info["compiler"] = SVCONV_COMPILER;
  info["cuda"] = SVCONV_CUDA_INFO;
  return info;
}

py::dict instruction_sets() {
  int count = 0;
  const auto* sets = svconv::cpu::instruction_sets(&count);
  py::dict result;
  for (int i = 0; i < count; ++i) result[sets[i].name] = sets[i].supported;
  return result;
}

void force_instruction_set(const py::object& name) {
  const bool automatic = name.is_none();
  const std::string text = automatic ? "" : name.cast<std::string>();
  if (!svconv::cpu::force_instruction_set(automatic ? nullptr : text.c_str()))
    throw py::value_error("svconv._C.force_instruction_set: expected None or a supported name of "
                          "instruction_sets(), got '" + text + "'");
}

Type type_of(const std::string& dtype) {
  if (dtype == "float32") return Type::float32;
  if (dtype == "float64") return Type::float64;
  if (dtype == "float16") return Type::float16;
  if (dtype == "bfloat16") return Type::bfloat16;
  throw py::value_error("svconv._C.forward: expected a floating point dtype of 16, 32 or 64 bits, got '" + dtype + "'");
}

View view(const py::array& a) {
  const auto stride = [&a](int axis) { return a.strides(axis) / a.itemsize(); };
  return {const_cast<void*>(a.data()), stride(0), stride(1), stride(2), stride(3)};
}

void check_shape(const py::array& a, int64_t n, int64_t c, int64_t h, int64_t w, const char* name) {
  if (a.ndim() != 4 || a.shape(0) != n || a.shape(1) != c || a.shape(2) != h || a.shape(3) != w)
    throw py::value_error(std::string("svconv._C.forward: wrong shape of ") + name);
}

// Runs all items on at most `threads` threads, the calling one among them; the first error of any is thrown.
void run_items(Product product, const Problem& problem, const Plan& plan, int64_t threads) {
  const int64_t count = plan.items;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  const auto work = [&] {
    try {
      for (int64_t item; (item = next++) < count;) svconv::cpu::run(product, problem, plan, item, item + 1);
    } catch (...) {
      next = count;
      if (!failed.exchange(true)) error = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    while (static_cast<int64_t>(others.size()) + 1 < std::min(threads, count)) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system grants no more threads; those that run take all items.
  }
  work();
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

int64_t threads_for(int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t kernel_size, int64_t groups,
                    int64_t most) {
  Problem p;
  p.batch = batch;
  p.channels = channels;
  p.height = height;
  p.width = width;
  p.kernel = kernel_size;
  p.groups = groups;
  return svconv::cpu::threads_for(p, most);
}

// Arguments are validated in Python (svconv/numpy.py); the checks here are the backstop.
void forward(const std::string& dtype, const py::array& input, const py::array& logits, py::array& out,
             int64_t kernel_size, int64_t dilation, int64_t groups, bool normalize, bool renormalize,
             int64_t most_threads) {
  if (input.ndim() != 4 || kernel_size < 1 || kernel_size % 2 == 0 || dilation < 1 || groups < 1)
    throw py::value_error("svconv._C.forward: expected 4 dimensions and positive options");
  Problem p;
  p.type = type_of(dtype);
  p.batch = input.shape(0);
  p.channels = input.shape(1);
  p.height = input.shape(2);
  p.width = input.shape(3);
  p.groups = groups;
  p.kernel = kernel_size;
  p.dilation = svconv::least_dilation(dilation, p.height, p.width);
  p.normalize = normalize;
  p.renormalize = renormalize;
  check_shape(logits, p.batch, groups * kernel_size * kernel_size, p.height, p.width, "logits");
  check_shape(out, p.batch, p.channels, p.height, p.width, "out");
  p.data = view(input);
  p.logits = view(logits);
  out.mutable_data();  // throws if it is read-only
  p.result = view(out);

  const size_t bytes = out.nbytes();
  const py::gil_scoped_release release;
  svconv::cpu::advise_huge_pages(p.result.data, bytes);
  const int64_t threads = svconv::cpu::threads_for(p, most_threads);
  run_items(Product::forward, p, svconv::cpu::plan(Product::forward, p, threads), threads);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "What was built, the instruction set that the CPU kernels run on, and forward on NumPy arrays.";
  m.def("build_info", &build_info, "Version, compiler and whether CUDA kernels were built.");
  m.def("instruction_sets", &instruction_sets,
        "Instruction sets compiled in, narrowest first, and whether this machine has each.");
  m.def("active_instruction_set", &svconv::cpu::active_instruction_set, "The one in use, process-wide.");
  m.def("force_instruction_set", &force_instruction_set, py::arg("name"),
        "Use the one named, or with None the widest this machine has. Process-wide; meant for tests.");
  m.def("threads_for", &threads_for, py::arg("batch"), py::arg("channels"), py::arg("height"), py::arg("width"),
        py::kw_only(), py::arg("kernel_size"), py::arg("groups"), py::arg("most"),
        "How many threads, at most `most`, a product of this size is computed on.");
  py::class_<svconv::Memory>(m, "Memory", "The memory of a strided array; strides count elements.")
      .def(py::init([](uintptr_t address, int64_t element_bytes, std::vector<int64_t> sizes,
                       std::vector<int64_t> strides) {
             return svconv::Memory{address, element_bytes, std::move(sizes), std::move(strides)};
           }),
           py::arg("address"), py::arg("element_bytes"), py::arg("sizes"), py::arg("strides"))
      .def("overlaps_itself", &svconv::overlaps_itself, "Whether two elements may lie at one address.")
      .def("meets", &svconv::share_memory, py::arg("other"), "Whether an element lies in the memory of another's.");
  m.def("forward", &forward, py::arg("dtype"), py::arg("input").noconvert(), py::arg("logits").noconvert(),
        py::arg("out").noconvert(), py::kw_only(), py::arg("kernel_size"), py::arg("dilation"), py::arg("groups"),
        py::arg("normalize"), py::arg("renormalize"), py::arg("threads"),
        "Writes svconv2d of input and logits, arrays of the dtype named, into out.");
}

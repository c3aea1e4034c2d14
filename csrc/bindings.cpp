// svconv._C: what was built and which instruction set runs. Free of torch.
#include "cpu/kernels.h"

#include <pybind11/pybind11.h>

#include <string>

namespace py = pybind11;

namespace {

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

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "What was built, and the instruction set that the CPU kernels run on.";
  m.def("build_info", &build_info, "Version, compiler and whether CUDA kernels were built.");
  m.def("instruction_sets", &instruction_sets,
        "Instruction sets compiled in, narrowest first, and whether this machine has each.");
  m.def("active_instruction_set", &svconv::cpu::active_instruction_set, "The one in use, process-wide.");
  m.def("force_instruction_set", &force_instruction_set, py::arg("name"),
        "Use the one named, or with None the widest this machine has. Process-wide; meant for tests.");
}

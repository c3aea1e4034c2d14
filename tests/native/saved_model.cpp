// Runs a saved model that calls the operators, without Python: saved_model LIBRARY KIND MODEL TENSORS, where KIND is
// "script" or "package", and TENSORS holds input, logits and the result that is expected. Exit status 1 where another
// comes out.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>

#include <dlfcn.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

int main(int, char** arguments) {
  if (!dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL)) return std::fprintf(stderr, "%s\n", dlerror()), 2;
  const c10::InferenceMode guard;
  std::ifstream file(arguments[4], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<at::Tensor> inputs;
  const c10::IValue saved = torch::jit::pickle_load(bytes);
  for (const c10::IValue& tensor : saved.toListRef()) inputs.push_back(tensor.toTensor());
  const at::Tensor expected = inputs.back();
  inputs.pop_back();
  at::Tensor result;
  if (std::string(arguments[2]) == "script") {
    result = torch::jit::load(arguments[3]).forward({inputs[0], inputs[1]}).toTensor();
  } else {
    result = torch::inductor::AOTIModelPackageLoader(arguments[3]).run(inputs).at(0);
  }
  return at::equal(result, expected) ? 0 : 1;
}

// Functions that a test calls in a process of its own, by name (server.cpp).
#pragma once

#include <cstdint>
#include <vector>

namespace svconv::simulate {

using Numbers = std::vector<int64_t>;
using Buffers = std::vector<void*>;

// Registers a function under a name, from a static object.
struct Function {
  Function(const char* name, void (*run)(const Numbers& numbers, const Buffers& buffers));
};

}  // namespace svconv::simulate

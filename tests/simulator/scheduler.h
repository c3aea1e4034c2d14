// What the simulated instructions need of the scheduler.
#pragma once

#include "device.h"

namespace svconv::simulate {

// Waits until all lanes of `mask` have come here, then calls `perform` once, with what each lane gave.
using Perform = void (*)(void* const* records, unsigned mask);
void exchange(unsigned mask, Site site, void* record, Perform perform);

// Fails unless the block's shared memory holds these bytes, aligned.
void check_shared(const void* address, size_t bytes, size_t alignment, Site site);

}  // namespace svconv::simulate

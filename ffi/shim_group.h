// Groups of ranks, where the operations of plans find them.
#pragma once
#include <algorithm>
#include <cstring>

#include "kernels/group.h"
#include "shim_native.h"

namespace shim {

/** The group of this number. @throws std::invalid_argument when it was left. */
std::shared_ptr<ek::Group> group_at(int32_t id);

}  // namespace shim

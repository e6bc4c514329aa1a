// A recorded step: what is replayed, and what keeps its weights in memory.
#pragma once
#include "shim_native.h"

namespace shim {

/** A plan, and what it refers to. */
struct Recorded {
  ek::Plan plan;
  std::vector<mx::array> weights;
  std::vector<std::shared_ptr<PackedMatrix>> matrices;
  std::vector<std::shared_ptr<ek::RopeTable>> tables;
  std::vector<std::shared_ptr<ek::Group>> groups;
  int output = -1;
  ek::Step step;  // Reused from run to run.
};

/** Made when first used, never destroyed, like the other registries. */
Registry<Recorded>& plans();

}  // namespace shim

// How neighbours find each other: each listens for the rank before and connects to the next.
#pragma once
#include "group_spec.h"
#include "sockets.h"

namespace exo::kernels {

/** The connections of a rank. */
struct Neighbours {
  Fd previous;  // Its frames come from here.
  Fd next;      // Ours go there.
};

/**
 * Waits until the rank before has connected and the next one has let us in. Whoever else connects
 * is dropped; a next rank that is not there yet, or is of another group, is asked again.
 * @throws GroupError that names who is missing when the time is over, or once it is cancelled.
 */
Neighbours meet(const Fd& listener, const GroupSpec& spec, Clock::time_point deadline,
                const Signal& cancelled);

}  // namespace exo::kernels

// MLX distributed: the group of this process, and sums over it. A process is of one group at most,
// since MLX keeps one for each backend.
#include <memory>
#include <mutex>
#include <string>

#include "mlx/distributed/distributed.h"
#include "mlx/distributed/ops.h"
#include "shim_internal.h"
#include "shim_side_channel.h"

using namespace shim;
namespace dist = mx::distributed;

namespace {

/** What failed on a thread of its own: messages are kept for each thread, and that one is gone. */
struct Failure {
  std::mutex mutex;
  std::string reason;
};

Failure& failure() {
  static auto* state = new Failure;
  return *state;
}

/** As `guarded`, of a function that runs on a thread of its own. */
template <class Body>
int32_t guarded_aside(Body&& body) noexcept {
  return guarded([&] {
    try {
      return body();
    } catch (const std::exception& e) {
      const std::lock_guard lock(failure().mutex);
      failure().reason = e.what();
      throw;
    }
  });
}

/** The group of this process. Never destroyed: at exit, MLX's threads may still use it. */
struct Joined {
  std::mutex mutex;
  std::shared_ptr<dist::Group> group;
};

Joined& joined() {
  static auto* state = new Joined;
  return *state;
}

dist::Group group_now() {
  auto& state = joined();
  const std::lock_guard lock(state.mutex);
  if (!state.group) throw std::logic_error("this process is of no group");
  return *state.group;
}

dist::Group form(const std::string& backend, const std::string& input, const std::string& output) {
  if (input.empty()) return dist::init(true, backend);
  auto pipes = std::make_shared<PipeGather>(input, output);
  return dist::init(true, backend, [pipes](int, int size) -> dist::AllGatherFn {
    return [pipes, size](const char* data, char* out, size_t count) {
      pipes->gather(data, out, count, static_cast<size_t>(size));
    };
  });
}

}  // namespace

int32_t shim_distributed_available(const char* backend) {
  return guarded([=] { return dist::is_available(backend) ? 1 : 0; });
}

int32_t shim_distributed_init(const char* backend, const char* input, const char* output) {
  return guarded_aside([=] {
    auto group = std::make_shared<dist::Group>(form(backend, input, output));
    auto& state = joined();
    const std::lock_guard lock(state.mutex);
    if (state.group) throw std::logic_error("this process is of a group already");
    state.group = group;
    return 0;
  });
}

int32_t shim_distributed_failure(void) {
  return guarded([] {
    const std::lock_guard lock(failure().mutex);
    return leave_text(failure().reason);
  });
}

int32_t shim_distributed_rank(void) { return guarded([] { return group_now().rank(); }); }

int32_t shim_distributed_size(void) { return guarded([] { return group_now().size(); }); }

int32_t shim_distributed_leave(void) {
  return guarded([] {
    auto& state = joined();
    const std::lock_guard lock(state.mutex);
    state.group.reset();
    dist::clear_backends();
    return 0;
  });
}

int32_t shim_distributed_all_sum(int32_t x) {
  return guarded([=] { return add(dist::all_sum(at(x), group_now())); });
}

int32_t shim_pipe_gather(
    const char* input,
    const char* output,
    const uint8_t* data,
    int32_t byte_count,
    int32_t ranks,
    uint8_t* out) {
  return guarded_aside([=] {
    const PipeGather pipes(input, output);
    pipes.gather(
        reinterpret_cast<const char*>(data), reinterpret_cast<char*>(out),
        static_cast<size_t>(byte_count), static_cast<size_t>(ranks));
    return 0;
  });
}

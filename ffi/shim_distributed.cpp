// MLX distributed: the group of this process, its operations on arrays, and frames between
// neighbours. A process is of one group at most, since MLX keeps one for each backend.
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>

#include "mlx/distributed/distributed.h"
#include "mlx/distributed/ops.h"
#include "shim_frames.h"
#include "shim_internal.h"
#include "shim_side_channel.h"

using namespace shim;

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

/** The group of this process. Never destroyed: at exit, its threads may still use it. */
struct Joined {
  std::mutex mutex;
  std::shared_ptr<dist::Group> group;
  std::shared_ptr<FrameLink> link;
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

std::shared_ptr<FrameLink> link_now() {
  auto& state = joined();
  const std::lock_guard lock(state.mutex);
  if (!state.link) throw std::logic_error("this process is of no group");
  return state.link;
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
    auto link = std::make_shared<FrameLink>(*group);
    auto& state = joined();
    const std::lock_guard lock(state.mutex);
    if (state.group) throw std::logic_error("this process is of a group already");
    state.group = group;
    state.link = link;
    link->start();
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
    if (state.link) state.link->close();
    state.link.reset();
    state.group.reset();
    dist::clear_backends();
    return 0;
  });
}

int32_t shim_distributed_send(int32_t x, int32_t to) {
  return guarded([=] { return add(dist::send(at(x), to, group_now())); });
}

int32_t shim_distributed_recv(const int32_t* shape, int32_t ndim, int32_t type, int32_t from) {
  return guarded(
      [=] { return add(dist::recv(shape_of(shape, ndim), dtype_of(type), from, group_now())); });
}

int32_t shim_distributed_all_sum(int32_t x) {
  return guarded([=] { return add(dist::all_sum(at(x), group_now())); });
}

int32_t shim_distributed_all_gather(int32_t x) {
  return guarded([=] { return add(dist::all_gather(at(x), group_now())); });
}

int32_t shim_frame_send(
    const uint8_t* header, int32_t header_bytes, const uint8_t* body, int32_t body_bytes) {
  return guarded([=] {
    Bytes frame(static_cast<size_t>(header_bytes) + static_cast<size_t>(body_bytes));
    std::copy(header, header + header_bytes, frame.begin());
    std::copy(body, body + body_bytes, frame.begin() + header_bytes);
    link_now()->send(std::move(frame));
    return 0;
  });
}

int32_t shim_frame_receive(int32_t ms, int32_t* byte_count) {
  return guarded([=] {
    Bytes frame;
    if (!link_now()->receive(ms, frame)) return 0;
    *byte_count = leave_text(std::string(frame.begin(), frame.end()));
    return 1;
  });
}

int32_t shim_frame_arrival(void) {
  return guarded_aside([] {
    link_now()->arrival();
    return 0;
  });
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

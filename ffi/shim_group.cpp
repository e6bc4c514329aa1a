// Groups of ranks: met over a listener, used by frames and by the sums of plans.
#include "shim_group.h"

namespace shim {

namespace {

/** A bound socket, and what becomes of it. */
struct Listener {
  ek::Fd socket;
  int port = 0;
  ek::GroupSpec spec;
  ek::Signal cancelled;
  std::mutex mutex;  // Of what a join leaves, on a thread of its own.
  std::shared_ptr<ek::Group> joined;
  std::exception_ptr failure;
};

Registry<Listener>& listeners() {
  static auto* all = new Registry<Listener>("listener");
  return *all;
}

/** A group, and the frame that was received and not taken yet. */
struct Member {
  std::shared_ptr<ek::Group> group;
  ek::Frame received;
};

Registry<Member>& members() {
  static auto* all = new Registry<Member>("group");
  return *all;
}

}  // namespace

std::shared_ptr<ek::Group> group_at(int32_t id) { return members().at(id)->group; }

}  // namespace shim

using namespace shim;

int32_t shim_group_listen(const char* ip, int32_t port) {
  return guarded([=] {
    auto listener = std::make_shared<Listener>();
    listener->socket = ek::listen_at(ip, port);
    listener->port = ek::port_of(listener->socket);
    return listeners().add(std::move(listener));
  });
}

int32_t shim_group_port(int32_t listener) {
  return guarded([=] { return listeners().at(listener)->port; });
}

int32_t shim_group_prepare(
    int32_t listener,
    const char* group_id,
    int32_t rank,
    int32_t size,
    const uint8_t* names,
    int32_t names_bytes,
    const char* next_ip,
    int32_t next_port,
    int32_t timeout_ms) {
  return guarded([=] {
    const std::shared_ptr<Listener> own = listeners().at(listener);
    if (!own->socket) throw std::invalid_argument("its ranks are met already");
    ek::GroupSpec spec;
    spec.id = group_id;
    spec.rank = rank;
    spec.size = size;
    spec.names = strings_of(names, names_bytes);
    spec.next_ip = next_ip;
    spec.next_port = next_port;
    spec.timeout = timeout_ms;
    spec.check();
    own->spec = std::move(spec);
    return 0;
  });
}

int32_t shim_group_join(int32_t listener) {
  return guarded([=] {
    const std::shared_ptr<Listener> own = listeners().at(listener);
    std::shared_ptr<ek::Group> joined;
    std::exception_ptr failure;
    try {
      joined = std::make_shared<ek::Group>(std::move(own->socket), own->spec, own->cancelled);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(own->mutex);
    own->joined = std::move(joined);
    own->failure = failure;
    return 0;
  });
}

int32_t shim_group_joined(int32_t listener) {
  return guarded([=] {
    const std::shared_ptr<Listener> own = listeners().at(listener);
    const std::lock_guard lock(own->mutex);
    if (own->failure) std::rethrow_exception(own->failure);
    if (!own->joined) throw std::invalid_argument("its ranks have not been met");
    auto member = std::make_shared<Member>();
    member->group = std::move(own->joined);
    return members().add(std::move(member));
  });
}

int32_t shim_group_cancel(int32_t listener) {
  return guarded([=] {
    listeners().at(listener)->cancelled.raise();
    return 0;
  });
}

int32_t shim_group_unlisten(int32_t listener) {
  return guarded([=] {
    listeners().remove(listener);
    return 0;
  });
}

int32_t shim_group_send(
    int32_t group,
    const uint8_t* header,
    int32_t header_bytes,
    const uint8_t* body,
    int32_t body_bytes) {
  return guarded([=] {
    group_at(group)->send({header, size_t(header_bytes)}, {body, size_t(body_bytes)});
    return 0;
  });
}

int32_t shim_group_receive(int32_t group, int32_t ms) {
  return guarded([=] {
    const std::shared_ptr<Member> member = members().at(group);
    std::optional<ek::Frame> frame = member->group->receive(ms);
    if (!frame) return 0;
    member->received = std::move(*frame);
    return int32_t(member->received.size) + 1;
  });
}

int32_t shim_group_take(int32_t group, uint8_t* out, int32_t capacity) {
  return guarded([=] {
    const std::shared_ptr<Member> member = members().at(group);
    const ek::Frame frame = std::move(member->received);
    member->received = {};
    if (frame.size > size_t(capacity)) throw std::length_error("there is no room for the frame");
    if (frame.size > 0) std::memcpy(out, frame.bytes.get(), frame.size);
    return int32_t(frame.size);
  });
}

int32_t shim_group_arrival(int32_t group) {
  return guarded([=] {
    group_at(group)->wait_arrival();
    return 0;
  });
}

int32_t shim_group_counters(int32_t group, double* out) {
  return guarded([=] {
    const ek::GroupCounters all = group_at(group)->counters();
    const double values[] = {all.bytes_sent, all.bytes_received, all.frames_sent, all.waited_ms};
    std::copy_n(values, 4, out);
    return 4;
  });
}

int32_t shim_group_leave(int32_t group) {
  return guarded([=] {
    group_at(group)->close();
    members().remove(group);
    return 0;
  });
}

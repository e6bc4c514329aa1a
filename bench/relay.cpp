// A switch for machines that are network namespaces: relay MACHINES SEED.
//
// Each machine is a network namespace with one network card, eth0, the end of a TAP device whose
// other end is this process. It carries frames from card to card and does to them what the link
// between the two is told: delay, jitter, loss by seed, cut. A door lets processes of our own
// namespace reach one port of a machine's loopback, whatever its links and its cable do.
//
// The namespaces have no names. They and all that is in them are gone when this process and those
// that entered them have ended, however that came about.
//
// The first line on stdout is a JSON array of file descriptors, one of each machine's namespace, to
// enter as /proc/PID/fd/N. Then each line on stdin is a command, answered by one line:
//   link FROM TO DELAY_US JITTER_US LOSS_PPM CUT
//   cable MACHINE IS_PLUGGED
//   count FROM TO             frames carried, lost, and dropped for a cut or a full queue; bytes
//   door MACHINE PORT         the port of our loopback that leads to that one of the machine's
// The end of stdin ends it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <queue>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t FRAME_BYTES_MAX = 65'536;
// Frames that one link holds while they are delayed; the next one is dropped, as a switch would.
constexpr uint32_t QUEUED_FRAMES_MAX = 8'192;
// Frames read from one card before the others have their turn.
constexpr int FRAMES_PER_TURN = 64;

[[noreturn]] void fail(const char* what) {
  perror(what);
  exit(1);
}

int check(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

uint64_t now_us() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

// Source: splitmix64.
uint64_t draw(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

struct Link {
  uint64_t delay_us = 0, jitter_us = 0, loss_ppm = 0;
  bool is_cut = false;
  uint64_t random = 0;       // Its own, so that a frame more elsewhere changes nothing here.
  uint64_t last_due_us = 0;  // Jitter reorders nothing: TCP would take it for loss.
  uint32_t queued = 0;
  uint64_t carried = 0, lost = 0, dropped = 0, bytes = 0;
};

struct Machine {
  int net_fd = -1, card_fd = -1;
  bool is_plugged = true;
};

struct Frame {
  uint64_t due_us, order;
  size_t from, to;
  std::string bytes;
  bool operator>(const Frame& other) const {
    return due_us != other.due_us ? due_us > other.due_us : order > other.order;
  }
};

std::vector<Machine> machines;
std::vector<Link> links;  // From machine a to machine b at [a * machines + b].
std::priority_queue<Frame, std::vector<Frame>, std::greater<>> delayed;
uint64_t frame_count = 0;

Link& link_of(size_t from, size_t to) { return links[from * machines.size() + to]; }

void up(const char* interface, const char* address, const char* mask) {
  int socket_fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  ifreq request{};
  strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  auto* ip = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
  ip->sin_family = AF_INET;
  inet_pton(AF_INET, address, &ip->sin_addr);
  check(ioctl(socket_fd, SIOCSIFADDR, &request), "SIOCSIFADDR");
  inet_pton(AF_INET, mask, &ip->sin_addr);
  check(ioctl(socket_fd, SIOCSIFNETMASK, &request), "SIOCSIFNETMASK");
  check(ioctl(socket_fd, SIOCGIFFLAGS, &request), "SIOCGIFFLAGS");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  check(ioctl(socket_fd, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
  close(socket_fd);
}

// Makes the namespace of machine n, whose card has the address 10.99.0.(n + 1).
Machine make_machine(size_t n) {
  check(unshare(CLONE_NEWNET), "unshare");
  Machine machine;
  machine.net_fd = check(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "ns/net");
  const int flags = O_RDWR | O_NONBLOCK | O_CLOEXEC;
  machine.card_fd = check(open("/dev/net/tun", flags), "/dev/net/tun");
  ifreq request{};
  strcpy(request.ifr_name, "eth0");
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  check(ioctl(machine.card_fd, TUNSETIFF, &request), "TUNSETIFF");
  // The last byte says whose it is.
  const uint8_t mac[] = {0x02, 0x65, 0x78, 0x6f, 0x00, static_cast<uint8_t>(n + 1)};
  request.ifr_hwaddr.sa_family = 1;  // Ethernet.
  memcpy(request.ifr_hwaddr.sa_data, mac, sizeof mac);
  check(ioctl(machine.card_fd, SIOCSIFHWADDR, &request), "SIOCSIFHWADDR");
  up("lo", "127.0.0.1", "255.0.0.0");
  up("eth0", ("10.99.0." + std::to_string(n + 1)).c_str(), "255.255.255.0");
  return machine;
}

void deliver(size_t from, size_t to, const char* bytes, size_t size) {
  Link& link = link_of(from, to);
  // What was under way when the link was cut is gone, too.
  if (link.is_cut || !machines[from].is_plugged || !machines[to].is_plugged) {
    link.dropped++;
    return;
  }
  if (write(machines[to].card_fd, bytes, size) < 0) {
    link.dropped++;
    return;
  }
  link.carried++;
  link.bytes += size;
}

void send_frame(size_t from, size_t to, const char* bytes, size_t size) {
  Link& link = link_of(from, to);
  if (!link.is_cut && link.loss_ppm > 0 && draw(link.random) % 1'000'000 < link.loss_ppm) {
    link.lost++;
    return;
  }
  const bool is_instant = link.delay_us == 0 && link.jitter_us == 0 && link.queued == 0;
  if (is_instant) return deliver(from, to, bytes, size);
  if (link.queued >= QUEUED_FRAMES_MAX) {
    link.dropped++;
    return;
  }
  const uint64_t jitter_us = link.jitter_us == 0 ? 0 : draw(link.random) % link.jitter_us;
  link.last_due_us = std::max(link.last_due_us, now_us() + link.delay_us + jitter_us);
  link.queued++;
  delayed.push({link.last_due_us, frame_count++, from, to, {bytes, size}});
}

// To the machine that the frame names, or to all for broadcast and multicast.
void take_frame(size_t from, const char* bytes, size_t size) {
  if (size < 14) return;
  const auto* to = reinterpret_cast<const uint8_t*>(bytes);
  const bool is_for_many = to[0] & 1;
  for (size_t n = 0; n < machines.size(); n++) {
    if (n != from && (is_for_many || to[5] == n + 1)) send_frame(from, n, bytes, size);
  }
}

void deliver_due() {
  while (!delayed.empty() && delayed.top().due_us <= now_us()) {
    const Frame& frame = delayed.top();
    link_of(frame.from, frame.to).queued--;
    deliver(frame.from, frame.to, frame.bytes.data(), frame.bytes.size());
    delayed.pop();
  }
}

void copy_all(int from, int to) {
  char bytes[65'536];
  for (ssize_t size; (size = read(from, bytes, sizeof bytes)) > 0;) {
    for (ssize_t at = 0; at < size;) {
      ssize_t written = write(to, bytes + at, size - at);
      if (written <= 0) return;
      at += written;
    }
  }
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// One connection through a door. Each thread has a namespace of its own.
void pass(int client, int net_fd, uint16_t port) {
  const sockaddr_in address = loopback(port);
  const auto* target = reinterpret_cast<const sockaddr*>(&address);
  int server = -1;
  if (setns(net_fd, CLONE_NEWNET) == 0) server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server >= 0 && connect(server, target, sizeof address) == 0) {
    std::thread back([=] {
      copy_all(server, client);
      // Both ways: an answer that breaks off is not waited for.
      shutdown(client, SHUT_RDWR);
    });
    copy_all(client, server);
    shutdown(server, SHUT_WR);
    back.join();
  }
  if (server >= 0) close(server);
  close(client);
}

uint16_t open_door(int net_fd, uint16_t port) {
  int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  check(bind(listener, any, length), "bind");
  check(listen(listener, SOMAXCONN), "listen");
  check(getsockname(listener, any, &length), "getsockname");
  std::thread([=] {
    for (int client; (client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      std::thread(pass, client, net_fd, port).detach();
    }
  }).detach();
  return ntohs(address.sin_port);
}

std::string obey(const char* line) {
  size_t a, b;
  unsigned long long delay, jitter, loss;
  int is_on;
  const size_t count = machines.size();
  if (sscanf(line, "link %zu %zu %llu %llu %llu %d", &a, &b, &delay, &jitter, &loss, &is_on) == 6 &&
      a < count && b < count) {
    Link& link = link_of(a, b);
    link.delay_us = delay, link.jitter_us = jitter, link.loss_ppm = loss, link.is_cut = is_on;
    return "ok";
  }
  if (sscanf(line, "cable %zu %d", &a, &is_on) == 2 && a < count) {
    machines[a].is_plugged = is_on;
    if (ioctl(machines[a].card_fd, TUNSETCARRIER, &is_on) < 0) return strerror(errno);
    return "ok";
  }
  if (sscanf(line, "count %zu %zu", &a, &b) == 2 && a < count && b < count) {
    const Link& link = link_of(a, b);
    std::string text;
    for (uint64_t n : {link.carried, link.lost, link.dropped, link.bytes}) {
      text += (text.empty() ? "" : " ") + std::to_string(n);
    }
    return text;
  }
  if (sscanf(line, "door %zu %zu", &a, &b) == 2 && a < count) {
    return std::to_string(open_door(machines[a].net_fd, static_cast<uint16_t>(b)));
  }
  return std::string("unknown command: ") + line;
}

void say(const std::string& line) {
  const std::string text = line + "\n";
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) exit(0);
}

// False at the end of stdin.
bool take_commands(std::string& pending) {
  char bytes[4'096];
  const ssize_t size = read(STDIN_FILENO, bytes, sizeof bytes);
  if (size <= 0) return false;
  pending.append(bytes, size);
  for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
    say(obey(pending.substr(0, end).c_str()));
  }
  return true;
}

void carry() {
  std::vector<pollfd> polled{{STDIN_FILENO, POLLIN, 0}};
  for (const Machine& machine : machines) polled.push_back({machine.card_fd, POLLIN, 0});
  std::string pending;
  static char bytes[FRAME_BYTES_MAX];
  while (true) {
    timespec wait{};
    if (!delayed.empty()) {
      const uint64_t now = now_us(), due = delayed.top().due_us;
      const uint64_t left_us = due > now ? due - now : 0;
      wait = {static_cast<time_t>(left_us / 1'000'000), static_cast<long>(left_us % 1'000'000) * 1'000};
    }
    if (ppoll(polled.data(), polled.size(), delayed.empty() ? nullptr : &wait, nullptr) < 0) {
      if (errno != EINTR) fail("ppoll");
      continue;
    }
    deliver_due();
    if (polled[0].revents && !take_commands(pending)) return;
    for (size_t n = 0; n < machines.size(); n++) {
      if (!(polled[n + 1].revents & POLLIN)) continue;
      for (int turn = 0; turn < FRAMES_PER_TURN; turn++) {
        const ssize_t size = read(machines[n].card_fd, bytes, sizeof bytes);
        if (size <= 0) break;
        take_frame(n, bytes, size);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "Usage: relay MACHINES SEED\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  // Timers end when they are asked to: by default some 50 us later, which each delay would have more.
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  const size_t count = strtoul(argv[1], nullptr, 10);
  uint64_t seed = strtoull(argv[2], nullptr, 10);
  const int own_net = check(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "ns/net");
  std::string fds;
  for (size_t n = 0; n < count; n++) {
    machines.push_back(make_machine(n));
    fds += (n == 0 ? "" : ",") + std::to_string(machines[n].net_fd);
  }
  check(setns(own_net, CLONE_NEWNET), "setns");
  links.resize(count * count);
  for (Link& link : links) link.random = draw(seed);
  say("[" + fds + "]");
  carry();
  _exit(0);
}

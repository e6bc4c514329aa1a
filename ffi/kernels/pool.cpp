#include "pool.h"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace exo::kernels {
namespace {

// How long a thread spins before it sleeps: longer than the gap between two operations of a step,
// shorter than what anyone would notice on an idle machine.
constexpr auto SPIN_US = std::chrono::microseconds(50);

thread_local bool inside_chunk = false;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** Spins until ready() or SPIN_US have passed; whether it is ready. */
template <class Ready>
bool spin_until(Ready&& ready) {
  const auto end = std::chrono::steady_clock::now() + SPIN_US;
  do {
    for (int i = 0; i < 32; i++) {
      if (ready()) return true;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

#if defined(__linux__)
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/** Cores among the processors that this thread may run on: threads of one core name one list. */
int cores_by_affinity() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    const std::string siblings = first_line(folder + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu " + std::to_string(cpu) : siblings);
  }
  return int(cores.size());
}

/** Processors' worth of time that a container may use, rounded up; 0 where there is no quota. */
int cgroup_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  long long quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return 0;  // "max" is no number.
  return int((quota + period - 1) / period);
}
#endif

}  // namespace

int physical_cores() {
  int cores = 0;
#if defined(__linux__)
  cores = cores_by_affinity();
  const int quota = cgroup_quota();
  if (quota > 0 && quota < cores) cores = quota;
#elif defined(__APPLE__)
  // Work is cut into equal chunks, and slow cores would finish theirs last: fast cores only.
  size_t bytes = sizeof cores;
  if (sysctlbyname("hw.perflevel0.physicalcpu", &cores, &bytes, nullptr, 0) != 0) {
    bytes = sizeof cores;
    sysctlbyname("hw.physicalcpu", &cores, &bytes, nullptr, 0);
  }
#endif
  if (cores < 1) cores = int(std::thread::hardware_concurrency());
  return cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : cores;
}

int choose_threads(const char* wanted) {
  if (wanted == nullptr || *wanted == 0) return physical_cores();
  char* end = nullptr;
  const long count = strtol(wanted, &end, 10);
  if (*end != 0 || count < 1 || count > THREADS_MAX) {
    throw std::runtime_error("Cannot start threads: EXO_THREADS is \"" + std::string(wanted) +
                             "\", a whole number from 1 to " + std::to_string(THREADS_MAX) +
                             " is needed");
  }
  return int(count);
}

int thread_count() { return choose_threads(getenv("EXO_THREADS")); }

Pool::Pool(int threads) {
  if (threads < 1 || threads > THREADS_MAX) {
    throw std::runtime_error("Cannot start " + std::to_string(threads) + " threads: 1 to " +
                             std::to_string(THREADS_MAX) + " are possible");
  }
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this] { worker(); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  stopping_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void Pool::run_job(const Job& job) {
  if (job.chunks <= 0) return;
  const bool alone = job.chunks == 1 || workers_.empty() || inside_chunk;
  std::unique_lock<std::mutex> owner(owner_, std::defer_lock);
  if (alone || !owner.try_lock()) {
    for (int chunk = 0; chunk < job.chunks; chunk++) job.call(job.context, chunk);
    return;
  }
  share(job);
  if (failure_ == nullptr) return;
  std::exception_ptr failure;
  std::swap(failure, failure_);
  std::rethrow_exception(failure);
}

void Pool::share(const Job& job) {
  job_ = job;
  failed_.store(false, std::memory_order_relaxed);
  unfinished_.store(job.chunks, std::memory_order_relaxed);
  const uint64_t number = (tickets_.load(std::memory_order_relaxed) >> 32) + 1;
  tickets_.store(number << 32 | uint32_t(job.chunks), std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  while (take_chunk()) {
  }
  const auto finished = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (spin_until(finished)) return;
  for (int left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) unfinished_.wait(left);
}

/**
 * Takes a chunk of the job under way and does it; false when none is left. Who has taken one may
 * read job_: that job ends only after unfinished_ has counted this chunk.
 */
bool Pool::take_chunk() {
  uint64_t tickets = tickets_.load(std::memory_order_acquire);
  do {
    if (uint32_t(tickets) == 0) return false;
  } while (!tickets_.compare_exchange_weak(tickets, tickets - 1, std::memory_order_acquire,
                                           std::memory_order_acquire));
  if (!failed_.load(std::memory_order_relaxed)) {
    inside_chunk = true;
    try {
      job_.call(job_.context, job_.chunks - int(uint32_t(tickets)));
    } catch (...) {
      if (!failed_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
    }
    inside_chunk = false;
  }
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void Pool::worker() {
  for (;;) {
    // Read before looking for work: a job that comes after the look changes it, and wait returns.
    const uint32_t seen = epoch_.load(std::memory_order_acquire);
    while (take_chunk()) {
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    const auto called = [this] { return has_chunk() || stopping_.load(std::memory_order_acquire); };
    if (!spin_until(called)) epoch_.wait(seen, std::memory_order_acquire);
  }
}

}  // namespace exo::kernels

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

// Bits below a job's number: for how many chunks it has. Above them there are years of jobs.
constexpr int CHUNK_BITS = 20;
constexpr int CHUNKS_MAX = (1 << CHUNK_BITS) - 1;

int chunks_of(uint64_t job) { return int(job & CHUNKS_MAX); }

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
  // Shares of a job are equal, and slow cores would finish theirs last: fast cores only.
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

Pool::Pool(int threads) : shares_(size_t(threads < 1 || threads > THREADS_MAX ? 0 : threads)) {
  if (threads < 1 || threads > THREADS_MAX) {
    throw std::runtime_error("Cannot start " + std::to_string(threads) + " threads: 1 to " +
                             std::to_string(THREADS_MAX) + " are possible");
  }
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { worker(i); });
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
  const bool alone =
      job.chunks == 1 || job.chunks > CHUNKS_MAX || workers_.empty() || inside_chunk;
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
  const uint64_t number = (current_.load(std::memory_order_relaxed) >> CHUNK_BITS) + 1;
  const uint64_t current = number << CHUNK_BITS | uint64_t(job.chunks);
  current_.store(current, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(0, current);
  const auto finished = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (spin_until(finished)) return;
  for (int left; (left = unfinished_.load(std::memory_order_acquire)) != 0;) unfinished_.wait(left);
}

/** Does what is left of the job's chunks: of its own share first, then of the others'. */
void Pool::work(int self, uint64_t current) {
  int done = 0;
  for (int i = 0; i < size(); i++) {
    while (take_chunk((self + i) % size(), current)) done++;
  }
  if (done > 0 && unfinished_.fetch_sub(done, std::memory_order_acq_rel) == done) {
    unfinished_.notify_one();
  }
}

/**
 * Takes a chunk of one thread's share and does it; false when none is left. A share that names an
 * older job is whole; one that names a newer one tells that this job is over. Who has taken a chunk
 * may read job_: that job ends only after unfinished_ has counted it.
 */
bool Pool::take_chunk(int owner, uint64_t current) {
  const uint64_t number = current >> CHUNK_BITS;
  const int64_t chunks = chunks_of(current);
  const int begin = int(chunks * owner / size()), end = int(chunks * (owner + 1) / size());
  std::atomic<uint64_t>& share = shares_[size_t(owner)].left;
  uint64_t found = share.load(std::memory_order_acquire);
  int left;
  do {
    if (found >> CHUNK_BITS > number) return false;
    left = found >> CHUNK_BITS == number ? chunks_of(found) : end - begin;
    if (left == 0) return false;
  } while (!share.compare_exchange_weak(found, number << CHUNK_BITS | uint64_t(left - 1),
                                        std::memory_order_acq_rel, std::memory_order_acquire));
  if (failed_.load(std::memory_order_relaxed)) return true;
  inside_chunk = true;
  try {
    job_.call(job_.context, end - left);
  } catch (...) {
    if (!failed_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
  }
  inside_chunk = false;
  return true;
}

void Pool::worker(int self) {
  for (uint64_t seen = 0;;) {
    // Read before looking for a job: one that comes after the look changes it, and wait returns.
    const uint32_t epoch = epoch_.load(std::memory_order_acquire);
    const uint64_t current = current_.load(std::memory_order_acquire);
    if (current != seen) {
      work(self, current);
      seen = current;
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    const auto called = [&] {
      return current_.load(std::memory_order_acquire) != seen ||
             stopping_.load(std::memory_order_acquire);
    };
    if (!spin_until(called)) epoch_.wait(epoch, std::memory_order_acquire);
  }
}

}  // namespace exo::kernels

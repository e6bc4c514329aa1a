// A pool of threads that share chunks of work.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace exo::kernels {

/** Most threads that a pool may have. */
constexpr int THREADS_MAX = 256;

/** Physical cores that this process may use (affinity and cgroup quota count); at least 1. */
int physical_cores();

/**
 * Threads that a runner uses: EXO_THREADS, else physical_cores().
 * @throws std::runtime_error when EXO_THREADS is not a number from 1 to THREADS_MAX.
 */
int thread_count();

/** What thread_count() does, for a given value of EXO_THREADS (null: not set). */
int choose_threads(const char* wanted);

/**
 * Persistent threads. Each has a share of a job's chunks, consecutive ones, and takes from the
 * others' shares when its own is done: so threads seldom touch what others write, and one that the
 * system pauses holds up one chunk only. Waiting threads spin for SPIN_US, then sleep.
 */
class Pool {
 public:
  /** Starts threads - 1 workers: the caller of run() is the last one. */
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /** Threads that work on a job, the caller's included. */
  int size() const { return int(workers_.size()) + 1; }

  /**
   * Calls work(chunk) once for each chunk in 0..chunks-1, and returns when all have returned.
   * Inside a chunk, while another thread's job has the pool, or with over a million chunks, the
   * caller does all of them itself.
   * The first exception is thrown again here, after the chunks under way have ended; chunks not
   * begun by then are dropped.
   */
  template <class F>
  void run(int chunks, F&& work) {
    using Work = std::remove_reference_t<F>;
    const auto call = [](void* context, int chunk) { (*static_cast<Work*>(context))(chunk); };
    run_job({call, const_cast<void*>(static_cast<const void*>(&work)), chunks});
  }

 private:
  struct Job {
    void (*call)(void* context, int chunk);
    void* context;
    int chunks;
  };

  /** Chunks left of one thread's share: a job's number in the upper bits, how many below. */
  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};
  };

  void run_job(const Job& job);
  void share(const Job& job);
  void work(int self, uint64_t current);
  bool take_chunk(int owner, uint64_t current);
  void worker(int self);
  void stop();

  std::vector<std::thread> workers_;
  std::mutex owner_;  // Held by the thread whose job is under way.
  // Written before the job is published; read by who has taken a chunk of it.
  Job job_{};
  std::exception_ptr failure_;                    // Written by who sets failed_ first.
  std::vector<Share> shares_;  // The first is the caller's.
  alignas(64) std::atomic<uint64_t> current_{0};  // The last job's number, and below its chunks.
  alignas(64) std::atomic<int> unfinished_{0};
  std::atomic<bool> failed_{false};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // Counts jobs; sleeping workers wait on it.
  std::atomic<bool> stopping_{false};
};

}  // namespace exo::kernels

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
 * Persistent threads that take chunks of a job from one counter, so that a thread that the system
 * pauses holds up one chunk only. Waiting threads spin for SPIN_US, then sleep.
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
   * Inside a chunk, or while another thread's job has the pool, the caller does all chunks itself.
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

  void run_job(const Job& job);
  void share(const Job& job);
  bool take_chunk();
  bool has_chunk() const { return uint32_t(tickets_.load(std::memory_order_acquire)) != 0; }
  void worker();
  void stop();

  std::vector<std::thread> workers_;
  std::mutex owner_;  // Held by the thread whose job is under way.
  // Written by the owner before it publishes tickets; read by who holds a ticket of that job.
  Job job_{};
  std::exception_ptr failure_;                    // Written by who sets failed_ first.
  alignas(64) std::atomic<uint64_t> tickets_{0};  // Job number in the high half, chunks left below.
  alignas(64) std::atomic<int> unfinished_{0};
  std::atomic<bool> failed_{false};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // Counts jobs; sleeping workers wait on it.
  std::atomic<bool> stopping_{false};
};

}  // namespace exo::kernels

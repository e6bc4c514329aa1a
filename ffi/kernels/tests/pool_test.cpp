// Tests of the thread pool: every chunk once, exceptions, nested and competing jobs, sleep when
// idle.
#include "../pool.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

void test_every_chunk_runs_once(Pool& pool) {
  for (int chunks : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<int> counts(size_t(chunks), 0);  // Plain ints: ThreadSanitizer sees a double run.
    pool.run(chunks, [&](int chunk) { counts[size_t(chunk)]++; });
    int right = 0;
    for (int count : counts) right += count == 1;
    check(right == chunks, "%d threads: %d of %d chunks ran once", pool.size(), right, chunks);
  }
}

void test_results_of_one_job_are_seen_by_the_next(Pool& pool) {
  std::vector<long> values(64, 0);
  const int jobs = 2000;
  for (int job = 0; job < jobs; job++) {
    pool.run(64, [&](int chunk) {
      // Reads a neighbour's value of the job before.
      if (job % 2 == 0) values[size_t(chunk)] += 1;
      else values[size_t(63 - chunk)] += 1;
    });
  }
  long sum = 0;
  for (long value : values) sum += value;
  check(sum == 64L * jobs, "%d threads: %ld of %ld additions", pool.size(), sum, 64L * jobs);
}

void test_an_exception_reaches_the_caller(Pool& pool) {
  for (int round = 0; round < 50; round++) {
    std::string caught;
    try {
      pool.run(16, [](int chunk) {
        if (chunk % 5 == 3) throw std::runtime_error("chunk failed");
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    check(caught == "chunk failed", "%d threads: caught \"%s\"", pool.size(), caught.c_str());
  }
  test_every_chunk_runs_once(pool);  // No thread was lost, and no old failure comes back.
}

void test_a_job_inside_a_job_runs_inline(Pool& pool) {
  std::atomic<int> inner{0}, elsewhere{0};
  pool.run(8, [&](int) {
    const auto self = std::this_thread::get_id();
    pool.run(8, [&](int) {
      inner++;
      if (std::this_thread::get_id() != self) elsewhere++;
    });
  });
  check(inner == 64 && elsewhere == 0, "nested: %d inner chunks, %d elsewhere", inner.load(),
        elsewhere.load());
}

void test_callers_may_compete(Pool& pool) {
  std::vector<std::thread> callers;
  std::atomic<int> total{0};
  for (int caller = 0; caller < 4; caller++) {
    callers.emplace_back([&] {
      for (int job = 0; job < 200; job++) pool.run(5, [&](int) { total++; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  check(total == 4 * 200 * 5, "competing callers: %d chunks", total.load());
}

void test_work_is_shared(Pool& pool) {
  if (pool.size() == 1) return;
  // Both chunks wait for each other, so two threads must have taken one each.
  std::atomic<int> arrived{0};
  pool.run(2, [&](int) {
    arrived++;
    while (arrived < 2) std::this_thread::yield();
  });
  check(arrived == 2, "two chunks ran at once");
}

#if defined(__linux__)
/** Threads of this process that run or are ready to run. */
int awake_threads() {
  int awake = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(entry.path() / "stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t name_end = text.rfind(')');
    awake += name_end != std::string::npos && text[name_end + 2] == 'R';
  }
  return awake;
}

void test_idle_threads_sleep(Pool& pool) {
  pool.run(64, [](int) {});
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  int awake;
  do awake = awake_threads();
  while (awake > 1 && std::chrono::steady_clock::now() < end);
  check(awake == 1, "%d threads are awake with nothing to do", awake);
  test_every_chunk_runs_once(pool);  // They wake again.
}
#endif

void test_pools_come_and_go() {
  for (int round = 0; round < 100; round++) {
    Pool pool(1 + round % 4);
    std::atomic<int> total{0};
    if (round % 3 != 0) pool.run(9, [&](int) { total++; });
    check(total == (round % 3 != 0 ? 9 : 0), "round %d: %d chunks", round, total.load());
  }
}

template <class F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

void test_thread_counts() {
  check(choose_threads("1") == 1 && choose_threads("256") == 256, "EXO_THREADS is obeyed");
  const int cores = physical_cores();
  check(cores >= 1 && cores <= THREADS_MAX, "%d cores", cores);
  check(choose_threads(nullptr) == cores && choose_threads("") == cores, "cores by default");
  for (const char* bad : {"0", "-1", "257", "two", "3x", "99999999999999999999", " "}) {
    const std::string expected = "Cannot start threads: EXO_THREADS is \"" + std::string(bad) +
                                 "\", a whole number from 1 to 256 is needed";
    const std::string found = error_of([&] { choose_threads(bad); });
    check(found == expected, "EXO_THREADS=%s: %s", bad, found.c_str());
  }
  check(error_of([] { Pool pool(0); }) == "Cannot start 0 threads: 1 to 256 are possible",
        "0 threads");
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3, 8}) {
    Pool pool(threads);
    check(pool.size() == threads, "size %d", pool.size());
    test_every_chunk_runs_once(pool);
    test_results_of_one_job_are_seen_by_the_next(pool);
    test_an_exception_reaches_the_caller(pool);
    test_a_job_inside_a_job_runs_inline(pool);
    test_callers_may_compete(pool);
    test_work_is_shared(pool);
#if defined(__linux__)
    test_idle_threads_sleep(pool);
#endif
  }
  test_pools_come_and_go();
  test_thread_counts();
  return summary();
}

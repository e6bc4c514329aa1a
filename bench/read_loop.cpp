// How fast this machine reads memory: threads add up all words of a buffer, pass after pass.
// Arguments: bytes, threads, passes. Prints bytes per second of the median pass.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

std::atomic<uint64_t> kept{0};  // Takes the sums, so that no read can be left out.

uint64_t sum(const uint64_t* at, size_t words) {
  uint64_t parts[32] = {};
  for (size_t i = 0; i + 32 <= words; i += 32) {
    for (int lane = 0; lane < 32; lane++) parts[lane] += at[i + lane];
  }
  uint64_t all = 0;
  for (const uint64_t part : parts) all += part;
  return all;
}

double seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

/** Waits for all threads without sleeping: a wake-up would count as reading. */
struct Barrier {
  std::atomic<int> arrived{0};
  void wait(int round, int threads) {
    arrived.fetch_add(1);
    while (arrived.load() < threads * round) {}
  }
};

}  // namespace

int main(int count, char** words) {
  if (count != 4) return 2;
  const size_t bytes = strtoull(words[1], nullptr, 10);
  const int threads = atoi(words[2]), passes = atoi(words[3]);
  if (bytes < (1 << 20) || threads < 1 || passes < 1) return 2;
  void* range = mmap(nullptr, bytes + (2 << 20), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) return 1;
#ifdef MADV_HUGEPAGE
  madvise(range, bytes + (2 << 20), MADV_HUGEPAGE);  // As the engine's weights are.
#endif
  uint64_t* data = static_cast<uint64_t*>(range);
  const size_t share = bytes / 8 / size_t(threads) / 32 * 32;
  for (size_t i = 0; i < share * size_t(threads); i++) data[i] = i * 0x9E3779B97F4A7C15;
  Barrier barrier;
  std::vector<double> times;
  auto work = [&](int thread) {
    for (int pass = 0; pass <= passes; pass++) {  // The first one is for warmth.
      barrier.wait(2 * pass + 1, threads);
      const double begin = seconds();
      kept += sum(data + share * size_t(thread), share);
      barrier.wait(2 * pass + 2, threads);
      if (thread == 0 && pass > 0) times.push_back(seconds() - begin);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; thread++) others.emplace_back(work, thread);
  work(0);
  for (std::thread& other : others) other.join();
  std::sort(times.begin(), times.end());
  std::printf("%.0f\n", double(share) * 8 * threads / times[times.size() / 2]);
  return 0;
}

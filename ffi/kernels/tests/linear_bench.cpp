// Measures the linear kernels; not run by the tests. Prints, for each shape, instruction set,
// number of threads and number of rows: the median rate, and for one row its ratio to a plain loop
// that reads the same bytes, both measured in turns.
#include <algorithm>
#include <ctime>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../linear.h"
#include "../pool.h"

using namespace exo::kernels;

namespace {

struct Shape {
  const char* name;
  MatrixSpec spec;
};

/** Bytes that begin at a multiple of ALIGN. */
class Buffer {
 public:
  explicit Buffer(size_t bytes)
      : at_(static_cast<uint8_t*>(aligned_alloc(ALIGN, (bytes + ALIGN) / ALIGN * ALIGN))) {
    memset(at_, 0, bytes);
  }
  ~Buffer() { free(at_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* data() { return at_; }

 private:
  uint8_t* at_;
};

/** With one thread, time on the processor: other programs' share does not count. */
double seconds(bool alone = false) {
  if (alone) {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) + double(now.tv_nsec) * 1e-9;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

volatile uint64_t sink;

/** Reads every byte once: plain code with enough loads under way. */
void read_all(Pool& pool, const uint8_t* data, size_t bytes) {
  typedef uint64_t V __attribute__((vector_size(32)));
  constexpr int LOADS = 8;
  const int chunks = pool.size() * 4;
  pool.run(chunks, [&](int chunk) {
    const size_t blocks = bytes / (sizeof(V) * LOADS);
    const size_t begin = blocks * chunk / chunks, end = blocks * (chunk + 1) / chunks;
    V sums[LOADS] = {};
    for (const V* at = reinterpret_cast<const V*>(data) + begin * LOADS;
         at < reinterpret_cast<const V*>(data) + end * LOADS; at += LOADS) {
#pragma GCC unroll 8
      for (int i = 0; i < LOADS; i++) sums[i] ^= at[i];
    }
    for (int i = 1; i < LOADS; i++) sums[0] ^= sums[i];
    sink = sums[0][0] ^ sums[0][1] ^ sums[0][2] ^ sums[0][3];
  });
}

void multiply(const LinearKernels& kernels, Pool& pool, const MatrixSpec& spec,
              const uint8_t* packed, const float* x, int rows, uint8_t* scratch, float* y) {
  const ArrangedRows view{scratch, rows, kernels.quantized_blocks(rows)};
  if (view.blocks == 1) {
    kernels.quantize_rows(spec, x, spec.inputs, rows, 0, 1, scratch);
  } else {
    pool.run(view.blocks, [&](int block) {
      kernels.quantize_rows(spec, x, spec.inputs, rows, block, block + 1, scratch);
    });
  }
  const int pairs = (spec.outputs + 31) / 32;
  const int per_chunk = std::max(1, pairs / (pool.size() * 4));
  pool.run((pairs + per_chunk - 1) / per_chunk, [&](int chunk) {
    const int begin = chunk * per_chunk * 32, end = begin + per_chunk * 32;
    kernels.linear(spec, packed, view, {begin, std::min(end, spec.outputs), 0, view.blocks},
                   {y, size_t(spec.outputs), nullptr, nullptr, 0});
  });
}

void measure(const Shape& shape, Isa isa, Pool& pool, const std::vector<int>& row_counts) {
  const MatrixSpec& spec = shape.spec;
  const LinearKernels& kernels = linear_kernels(isa);
  // As many copies as exceed the caches that a real model's other layers would have emptied.
  const size_t bytes = packed_bytes(spec);
  const char* warm = getenv("BENCH_WARM");
  const int copies = warm != nullptr ? 1 : int(std::max<size_t>(1, (96u << 20) / bytes));
  Buffer packed(bytes * copies);
  std::mt19937 random(1);
  std::vector<uint32_t> words(size_t(spec.inputs) * spec.bits / 32 * spec.outputs);
  for (uint32_t& word : words) word = uint32_t(random());
  // 0x3400 is 0.25 as f16 and 1.2e-7 as bf16: neither is subnormal, which would be slow.
  const std::vector<uint16_t> scales(size_t(spec.inputs) / spec.group * spec.outputs, 0x3400);
  pack_affine(spec, {words.data(), scales.data(), scales.data()}, 0, spec.outputs, packed.data());
  for (int copy = 1; copy < copies; copy++)
    memcpy(packed.data() + copy * bytes, packed.data(), bytes);
  const int most = *std::max_element(row_counts.begin(), row_counts.end());
  std::vector<float> x(size_t(most) * spec.inputs), y(size_t(most) * spec.outputs);
  std::normal_distribution<float> normal;
  for (float& value : x) value = normal(random);
  Buffer scratch(quantized_rows_bytes(spec, most));
  const bool alone = pool.size() == 1;
  for (int rows : row_counts) {
    const int turns = rows == 1 ? copies : std::max(1, std::min(copies, 64 / rows));
    std::vector<double> ours, reads;
    const double until = seconds() + (isa == Isa::scalar ? 0.3 : 0.5);
    for (int round = 0; round < 5 || (seconds() < until && round < 200); round++) {
      double start = seconds(alone);
      for (int i = 0; i < turns; i++) {
        multiply(kernels, pool, spec, packed.data() + bytes * i, x.data(), rows, scratch.data(),
                 y.data());
      }
      ours.push_back((seconds(alone) - start) / turns);
      if (rows != 1) continue;
      start = seconds(alone);
      read_all(pool, packed.data(), bytes * copies);
      reads.push_back((seconds(alone) - start) / copies);
    }
    const double took = median(ours), macs = double(rows) * spec.outputs * spec.inputs;
    const double best = *std::min_element(ours.begin(), ours.end());
    printf("%-26s %-7s %d threads %4d rows %9.1f us %7.1f (best %7.1f) GMAC/s", shape.name,
           isa_name(isa), pool.size(), rows, took * 1e6, macs / took * 1e-9, macs / best * 1e-9);
    if (rows == 1) {
      printf(" %6.1f GB/s, read loop %6.1f, ratio %.2f", bytes / took * 1e-9,
             bytes / median(reads) * 1e-9, median(reads) / took);
    }
    printf("\n");
    fflush(stdout);
  }
}

}  // namespace

// linear_bench [instruction set, or all] [threads, or 0 for 1 and 2] [part of a shape's name]
// [rows]
int main(int argc, char** argv) {
  const std::string wanted = argc > 1 ? argv[1] : "all", name = argc > 3 ? argv[3] : "";
  const int threads = argc > 2 ? atoi(argv[2]) : 0;
  std::vector<int> rows = {1, 4, 8, 16, 64, 512};
  if (argc > 4) rows = {atoi(argv[4])};
  const Shape shapes[] = {
      {"576x576 4 bit", {576, 576, 4, 32, Dtype::f16}},
      {"192x576 4 bit", {192, 576, 4, 32, Dtype::f16}},
      {"1536x576 4 bit", {1536, 576, 4, 32, Dtype::f16}},
      {"576x1536 4 bit", {576, 1536, 4, 32, Dtype::f16}},
      {"49152x576 8 bit", {49152, 576, 8, 32, Dtype::f16}},
      {"2048x2048 4 bit", {2048, 2048, 4, 32, Dtype::f16}},
      {"8192x2048 4 bit", {8192, 2048, 4, 32, Dtype::f16}},
      {"8192x2048 4 bit g64 bf16", {8192, 2048, 4, 64, Dtype::bf16}},
      {"8192x2048 8 bit g64 bf16", {8192, 2048, 8, 64, Dtype::bf16}},
  };
  for (const Shape& shape : shapes) {
    if (std::string(shape.name).find(name) == std::string::npos) continue;
    for (Isa isa : supported_isas()) {
      if (wanted != "all" && wanted != isa_name(isa)) continue;
      for (int count : threads == 0 ? std::vector<int>{1, 2} : std::vector<int>{threads}) {
        Pool pool(count);
        measure(shape, isa, pool, rows);
      }
    }
  }
}

// Time of the row functions and of attention, on each instruction set. Not a test.
// Flags: ffi/kernels/flags.ts, -O3. Argument "attention" or "sample": nothing else.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../pool.h"
#include "../rows.h"
#include "../sample.h"

using namespace exo::kernels;

namespace {

/** Microseconds of this thread's own time, or of the wall clock. */
double now_us(bool own) {
  timespec now;
  clock_gettime(own ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) * 1e6 + double(now.tv_nsec) * 1e-3;
}

/**
 * Least time of a call over some 60 ms, in microseconds: a busy machine only adds to it. For one
 * thread its own time counts, which a busy machine lengthens less.
 */
double time_us(const Pool& pool, const std::function<void()>& call) {
  const bool own = pool.size() == 1;
  call();
  double least = 1e12;
  for (double spent = 0; spent < 60e3;) {
    const double start = now_us(own);
    call();
    const double took = now_us(own) - start;
    least = std::min(least, took);
    spent += took;
  }
  return least;
}

std::vector<float> noise(size_t count) {
  static std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/** A cache of `positions` random keys and values. */
struct Cache {
  KvShape shape;
  std::vector<std::vector<uint8_t>> memory;
  std::vector<uint8_t*> blocks;

  Cache(const RowKernels& kernels, KvShape kv, int positions) : shape(kv) {
    const int count = (positions + KV_BLOCK - 1) / KV_BLOCK;
    for (int i = 0; i < count; i++) {
      memory.emplace_back(kv_block_bytes(shape) + KV_ALIGN);
      const size_t past = reinterpret_cast<uintptr_t>(memory.back().data()) % KV_ALIGN;
      blocks.push_back(memory.back().data() + (KV_ALIGN - past) % KV_ALIGN);
    }
    const size_t k_row = size_t(shape.kv_heads) * size_t(shape.key_dim);
    const size_t v_row = size_t(shape.kv_heads) * size_t(shape.value_dim);
    const auto k = noise(k_row * size_t(positions)), v = noise(v_row * size_t(positions));
    KvAppendArgs args{shape, blocks.data(), 0, {k.data(), k_row}, {v.data(), v_row}};
    kernels.kv_append(args, 0, positions);
  }
};

struct Model {
  const char* name;
  int heads, kv_heads, dim;
};

void bench_attention(const RowKernels& kernels, Pool& pool, const Model& model, Dtype dtype,
                     int context, int rows, bool parts) {
  const KvShape shape{model.kv_heads, model.dim, model.dim, dtype};
  const Cache cache(kernels, shape, context);
  const size_t width = size_t(model.heads) * size_t(model.dim);
  const auto q = noise(width * size_t(rows));
  std::vector<float> out(q.size());
  const KvSequence sequence{cache.blocks.data(), 0, rows, context - rows};
  AttentionArgs args;
  args.kv = shape;
  args.heads = model.heads;
  args.q = {q.data(), width};
  args.out = {out.data(), width};
  args.sequences = &sequence;
  args.sequence_count = 1;
  args.scale = 0.125f;
  std::vector<float> partials(parts ? attention_partial_floats(args) : 0);
  const double us = time_us(pool, [&] {
    const auto item = [&](int i) { kernels.attention_rows(args, i, i + 1); };
    if (!parts) return pool.run(attention_items(args), item);
    pool.run(attention_parts(args), [&](int i) {
      kernels.attention_chunks(args, partials.data(), i, i + 1);
    });
    pool.run(attention_items(args), [&](int i) {
      kernels.attention_combine(args, partials.data(), i, i + 1);
    });
  });
  const double seen = double(rows) * (context - rows) + double(rows) * (rows + 1) / 2;
  const double flop = 4 * seen * model.heads * model.dim;
  const double bytes = 2.0 * context * model.kv_heads * model.dim * double(dtype_bytes(dtype));
  printf("  attention %-8s %s%s context %4d rows %3d: %9.1f us %7.1f GFLOP/s %6.1f GB/s\n",
         model.name, dtype == Dtype::f16 ? "f16" : "f32", parts ? " parts" : "      ", context,
         rows, us, flop / us / 1e3, rows == 1 ? bytes / us / 1e3 : 0.0);
}

void bench_rows(const RowKernels& kernels, Pool& pool, int width, int rows) {
  const size_t stride = size_t(width);
  const auto x = noise(stride * size_t(rows)), y = noise(stride * size_t(rows));
  const auto weight = noise(stride);
  std::vector<float> out(x.size()), sum(x.size());
  std::vector<int32_t> positions(size_t(rows), 7);
  RopeTable table({std::vector<float>(32, 0.5f)});
  table.reserve(16);
  NormArgs norm{{x.data(), stride}, {out.data(), stride}, width, 1, 1e-5f, weight.data(), nullptr};
  AddNormArgs add{{x.data(), stride}, {y.data(), stride}, {sum.data(), stride}, norm};
  RopeArgs turn{{x.data(), stride}, {out.data(), stride}, positions.data(), &table, width / 64, 64};
  ElementwiseArgs two{{x.data(), stride}, {y.data(), stride}, {out.data(), stride}, width, 30};
  SoftmaxArgs soft{{x.data(), stride}, {out.data(), stride}, width};
  const auto show = [&](const char* name, const std::function<void(int, int)>& call) {
    const int per = std::max(1, rows / (4 * pool.size()));
    const double us = time_us(pool, [&] {
      pool.run((rows + per - 1) / per, [&](int c) {
        call(c * per, std::min(rows, c * per + per));
      });
    });
    printf(" %s %.2f", name, us);
  };
  printf("  width %4d rows %3d, us:", width, rows);
  show("rms_norm", [&](int a, int b) { kernels.rms_norm(norm, a, b); });
  show("add_rms_norm", [&](int a, int b) { kernels.add_rms_norm(add, a, b); });
  show("layer_norm", [&](int a, int b) { kernels.layer_norm(norm, a, b); });
  show("rope", [&](int a, int b) { kernels.rope(turn, a, b); });
  show("swiglu", [&](int a, int b) { kernels.elementwise(Elementwise::swiglu, two, a, b); });
  show("geglu", [&](int a, int b) { kernels.elementwise(Elementwise::geglu, two, a, b); });
  show("softcap", [&](int a, int b) { kernels.elementwise(Elementwise::softcap, two, a, b); });
  show("softmax", [&](int a, int b) { kernels.softmax(soft, a, b); });
  printf("\n");
}

void bench_vocabulary(const RowKernels& kernels, const Pool& pool, int width) {
  const auto x = noise(size_t(width));
  std::vector<float> values(TOP_K_MAX);
  std::vector<int32_t> indices(TOP_K_MAX);
  const ReduceArgs args{{x.data(), x.size()}, width};
  printf("  vocabulary %6d, us:", width);
  for (int k : {1, 50, 1024}) {
    printf(" top_%d %.1f", k, time_us(pool, [&] {
      top_k(kernels, x.data(), width, k, values.data(), indices.data());
    }));
  }
  printf(" argmax %.1f", time_us(pool, [&] { kernels.argmax(args, indices.data(), 0, 1); }));
  printf(" log_sum_exp %.1f\n", time_us(pool, [&] {
    kernels.log_sum_exp(args, values.data(), 0, 1);
  }));
}

/** A draw from logits with the spread that a model's have. */
void bench_sample(const RowKernels& kernels, const Pool& pool, int width, float spread) {
  auto x = noise(size_t(width));
  for (float& value : x) value *= spread;
  SampleBench bench;
  uint64_t index = 0;
  printf("  vocabulary %6d, spread %.0f, us:", width, double(spread));
  const auto show = [&](const char* name, const Filters& filters, int top, int adjustments) {
    std::vector<Adjustment> changes;
    for (int i = 0; i < adjustments; i++) changes.push_back({double(i * 7), 1, -0.5});
    SampleArgs args{x.data(), width, 0.7, filters, 1.1, changes.data(), adjustments, 1, 0, top};
    double kept = 0;
    const double us = time_us(pool, [&] {
      args.index = index++;
      sample(kernels, args, bench);
    });
    if (filters.any(width)) kept = double(bench.kept.ids.size());
    printf(" %s %.1f", name, us);
    if (kept > 0) printf(" (%.0f kept)", kept);
  };
  show("plain", {}, -1, 0);
  show("penalties", {}, -1, 1000);
  show("logprobs", {}, 20, 0);
  show("top_p .9", {0.9, 0, 0}, -1, 0);
  show("top_p .99", {0.99, 0, 0}, -1, 0);
  show("min_p .05", {1, 0.05, 0}, -1, 0);
  show("top_k 40", {1, 0, 40}, -1, 0);
  show("top_k 5000", {1, 0, 5000}, -1, 0);
  show("all", {0.9, 0.05, 40}, -1, 0);
  printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const bool attention_only = argc > 1 && std::string(argv[1]) == "attention";
  const bool sample_only = argc > 1 && std::string(argv[1]) == "sample";
  const Model small{"smol", 9, 3, 64}, wide{"8h/128", 32, 8, 128};
  for (Isa isa : supported_isas()) {
    const RowKernels& kernels = row_kernels(isa);
    for (int threads : {1, 2}) {
      Pool pool(threads);
      printf("%s, %d thread(s)\n", isa_name(isa), threads);
      if (sample_only && threads == 1) {
        for (float spread : {0.0f, 1.0f, 3.0f}) bench_sample(kernels, pool, 49152, spread);
      }
      if (sample_only) continue;
      for (Dtype dtype : {Dtype::f32, Dtype::f16}) {
        for (int context : {64, 512, 4096}) {
          bench_attention(kernels, pool, small, dtype, context, 1, false);
          bench_attention(kernels, pool, small, dtype, context, 1, true);
        }
        bench_attention(kernels, pool, small, dtype, 512, 512, false);
        if (isa == Isa::scalar) continue;
        bench_attention(kernels, pool, wide, dtype, 4096, 1, true);
        bench_attention(kernels, pool, wide, dtype, 4096, 512, false);
      }
      if (attention_only) continue;
      for (int width : {576, 1536}) {
        bench_rows(kernels, pool, width, 1);
        bench_rows(kernels, pool, width, 512);
      }
      if (threads == 1) {
        for (int width : {49152, 262144}) bench_vocabulary(kernels, pool, width);
        for (float spread : {0.0f, 1.0f, 3.0f}) bench_sample(kernels, pool, 49152, spread);
      }
    }
  }
}

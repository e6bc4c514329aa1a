// Tests of the KV cache and of attention over it, on every instruction set of this machine: against
// a softmax in double precision, and one query alone against the query among others, in parts, in
// other splits and on scalar, the latter bit for bit. Argument "short": a smaller grid.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "../pool.h"
#include "rows_cache.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

constexpr float INF = std::numeric_limits<float>::infinity();

bool is_short = false;

/** A case of the grid. */
struct Case {
  KvShape kv;
  int heads;
  int position;
  int rows;
  int window = 0;
  float softcap = 0;
  bool sinks = false;
};

const char* name_of(KvDtype dtype) {
  const char* names[] = {"f32", "f16", "q8", "q4"};
  return names[int(dtype)];
}

std::string describe(Isa isa, const Case& c) {
  return std::string(isa_name(isa)) + ", heads " + std::to_string(c.heads) + "/" +
         std::to_string(c.kv.kv_heads) + " of " + std::to_string(c.kv.key_dim) + "/" +
         std::to_string(c.kv.value_dim) + " " + name_of(c.kv.dtype) + ", " +
         std::to_string(c.rows) + " rows at " + std::to_string(c.position) + ", window " +
         std::to_string(c.window) + (c.softcap > 0 ? ", softcap" : "") + (c.sinks ? ", sinks" : "");
}

/** The outcome of one row and head in double precision. */
std::vector<double> expected(const Cache& cache, const KvContents& kept, const AttentionArgs& args,
                             int row, int head) {
  const KvShape& kv = cache.shape;
  const size_t kv_head = size_t(head / (args.heads / kv.kv_heads));
  const int position = args.sequences[0].position + row;
  const float* first_q = args.q.data + size_t(row) * args.q.stride + size_t(head * kv.key_dim);
  std::vector<float> q(first_q, first_q + kv.key_dim);
  if (is_quantized(kv.dtype)) turn_rows(q, kv.key_dim, true);
  std::vector<double> scores(size_t(position) + 1), out(size_t(kv.value_dim));
  double most = args.sinks ? double(args.sinks[head]) : -HUGE_VAL, sum = 0;
  const int first = args.window > 0 ? std::max(0, position + 1 - args.window) : 0;
  for (size_t p = size_t(first); p <= size_t(position); p++) {
    const float* k = kept.k.data() + p * cache.k_width() + kv_head * size_t(kv.key_dim);
    double score = 0;
    for (int d = 0; d < kv.key_dim; d++) score += double(q[size_t(d)]) * double(k[d]);
    score *= double(args.scale);
    if (args.softcap > 0) score = double(args.softcap) * std::tanh(score / double(args.softcap));
    most = std::fmax(most, scores[p] = score);
  }
  for (size_t p = size_t(first); p <= size_t(position); p++) {
    const float* v = kept.v.data() + p * cache.v_width() + kv_head * size_t(kv.value_dim);
    const double weight = std::exp(scores[p] - most);
    sum += weight;
    for (size_t d = 0; d < out.size(); d++) out[d] += weight * double(v[d]);
  }
  if (args.sinks) sum += std::exp(double(args.sinks[head]) - most);
  for (double& value : out) value /= sum;
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same_value);
}

void apply(const Case& c, const float* sinks, Query& query) {
  query.args.window = c.window;
  query.args.softcap = c.softcap;
  query.args.sinks = c.sinks ? sinks : nullptr;
}

/** The same in parts, which are computed last to first. */
void run_parts(const RowKernels& kernels, const AttentionArgs& args) {
  std::vector<float> partials(attention_partial_floats(args), NAN);
  for (int part = attention_parts(args); part-- > 0;) {
    kernels.attention_chunks(args, partials.data(), part, part + 1);
  }
  for (int item = attention_items(args); item-- > 0;) {
    kernels.attention_combine(args, partials.data(), item, item + 1);
  }
}

/** Positions come into the cache one at a time, as in decoding, and each is asked alone. */
void test_decoding(const RowKernels& kernels, const Case& c, const float* sinks, const Cache& full,
                   const Query& wanted, const std::string& name) {
  Cache cache(kernels, c.kv, c.position + c.rows, 1);
  cache.blocks.clear(), cache.memory.clear();
  if (c.position > 0) cache.append(kernels, 0, c.position);
  bool equal = cache.k == full.k;
  const size_t width = wanted.args.out.stride;
  for (int row = 0; row < c.rows; row++) {
    cache.append(kernels, c.position + row, c.position + row + 1);
    Query one(cache, c.heads, c.position + row, 1, 3);
    apply(c, sinks, one);
    one.args.q.data = wanted.args.q.data + size_t(row) * wanted.args.q.stride;
    kernels.attention_rows(one.args, 0, attention_items(one.args));
    equal = equal && std::equal(one.out.begin(), one.out.end(),
                                wanted.out.begin() + long(size_t(row) * width), same_bits);
    std::fill(one.out.begin(), one.out.end(), -1.0f);
    run_parts(kernels, one.args);
    equal = equal && std::equal(one.out.begin(), one.out.end(),
                                wanted.out.begin() + long(size_t(row) * width), same_bits);
  }
  check(equal, "%s: a query alone differs", name.c_str());
}

void test_case(const Case& c) {
  const auto sinks = noise(4, size_t(c.heads), 3);
  std::vector<float> first;
  for (Isa isa : supported_isas()) {
    const RowKernels& kernels = row_kernels(isa);
    const std::string name = describe(isa, c);
    const Cache cache(kernels, c.kv, c.position + c.rows, 1);
    Query query(cache, c.heads, c.position, c.rows, 3);
    apply(c, sinks.data(), query);
    kernels.attention_rows(query.args, 0, attention_items(query.args));
    if (first.empty()) first = query.out;
    check(same(query.out, first), "%s: instruction sets differ", name.c_str());
    const KvContents kept = cache.kept();
    double worst = 0;
    const int step = is_short ? std::max(1, c.rows / 2) : 1;
    for (int row = 0; row < c.rows; row += step) {
      for (int head = 0; head < c.heads; head++) {
        const auto wanted = expected(cache, kept, query.args, row, head);
        for (size_t d = 0; d < wanted.size(); d++) {
          const size_t at = size_t(row) * query.args.out.stride;
          const float found = query.out[at + size_t(head) * wanted.size() + d];
          worst = std::fmax(worst, std::fabs(double(found) - wanted[d]));
          if (std::isnan(found)) worst = HUGE_VAL;
        }
      }
    }
    check(worst < 5e-6, "%s: off by %g", name.c_str(), worst);
    const std::vector<float> wanted = query.out;
    std::fill(query.out.begin(), query.out.end(), -1.0f);
    run_parts(kernels, query.args);
    check(same(query.out, wanted), "%s: parts differ", name.c_str());
    test_decoding(kernels, c, sinks.data(), cache, query, name);
  }
}

void test_grid() {
  const auto shape = [](int kv_heads, int key_dim, int value_dim, KvDtype dtype = KvDtype::f32) {
    return KvShape{kv_heads, key_dim, value_dim, dtype};
  };
  std::vector<Case> cases{
      {shape(1, 16, 16), 1, 0, 1},
      {shape(2, 16, 16), 6, 250, 11},
      {shape(1, 8, 32, KvDtype::f16), 5, 300, 2, 40},
      {shape(1, 7, 16), 2, 265, 3, 257, 2.5f, true},
      {shape(1, 32, 32, KvDtype::q8), 5, 300, 2, 40},
      {shape(2, 7, 48, KvDtype::q4), 6, 250, 11},
  };
  if (!is_short) {
    cases.push_back({shape(3, 64, 64), 9, 0, 20});
    cases.push_back({shape(3, 64, 64), 9, 250, 13});
    cases.push_back({shape(2, 24, 48, KvDtype::f16), 10, 511, 5});
    cases.push_back({shape(1, 32, 32), 7, 300, 4, 40});
    cases.push_back({shape(2, 32, 32), 4, 270, 9, 257, 0, true});
    cases.push_back({shape(2, 7, 16), 2, 600, 2, 0, 2.5f});
    for (int rows : {1, 2, 3, 15, 16, 17, 33, 64}) {
      for (int position : {0, 1, 31, 200, 255, 256, 700}) {
        cases.push_back({shape(2, 16, 32), 6, position, rows});
        cases.push_back({shape(1, 16, 16, KvDtype::f16), 5, position, rows, 20, 5, true});
        cases.push_back({shape(1, 16, 32, KvDtype::q8), 7, position, rows, 20, 5, true});
        cases.push_back({shape(2, 16, 16, KvDtype::q4), 6, position, rows});
      }
    }
    for (KvDtype dtype : {KvDtype::q8, KvDtype::q4}) {
      cases.push_back({shape(3, 64, 64, dtype), 9, 250, 13});
      cases.push_back({shape(1, 128, 128, dtype), 8, 1000, 3});
      cases.push_back({shape(2, 80, 80, dtype), 4, 270, 9, 257, 0, true});
      cases.push_back({shape(1, 512, 512, dtype), 2, 290, 30, 8});
    }
    cases.push_back({shape(1, 128, 128), 8, 1000, 3});
    cases.push_back({shape(1, 512, 512), 2, 40, 30, 8});
    cases.push_back({shape(1, 80, 80), 48, 100, 3});
    cases.push_back({shape(4, 96, 96), 4, 60, 70});
    for (int heads = 1; heads < 14; heads++) cases.push_back({shape(1, 16, 16), heads, 37, 3});
  }
  for (const Case& c : cases) test_case(c);
}

/** Several sequences in one call, two of which share their first blocks, against each alone. */
void test_sequences(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  const KvShape kv{2, 16, 32, KvDtype::f32};
  Cache a(kernels, kv, 300, 1), b(kernels, kv, 70, 10), fork(kernels, kv, 290, 20);
  std::copy(a.blocks.begin(), a.blocks.begin() + 4, fork.blocks.begin());
  constexpr int HEADS = 6;
  const size_t width = HEADS * 32;
  Query all(a, HEADS, 0, 24, 3);
  const KvSequence sequences[] = {{a.blocks.data(), 0, 3, 297},
                                  {b.blocks.data(), 5, 1, 69},
                                  {b.blocks.data(), 7, 0, 69},
                                  {fork.blocks.data(), 7, 17, 273}};
  all.args.sequences = sequences;
  all.args.sequence_count = 4;
  std::vector<float> wanted(all.out.size(), -77.0f);
  for (const KvSequence& one : sequences) {
    AttentionArgs args = all.args;
    args.sequences = &one;
    args.sequence_count = 1;
    args.out.data = wanted.data();
    kernels.attention_rows(args, 0, attention_items(args));
  }
  kernels.attention_rows(all.args, 0, attention_items(all.args));
  check(same(all.out, wanted), "%s: sequences in one call differ", isa_name(isa));
  check(all.out[3 * width] == -77.0f && all.out[6 * width] == -77.0f,
        "%s: a row of no sequence was written", isa_name(isa));
  std::fill(all.out.begin(), all.out.end(), -77.0f);
  run_parts(kernels, all.args);
  check(same(all.out, wanted), "%s: parts of sequences differ", isa_name(isa));
  Pool pool(3);
  for (int round = 0; round < (is_short ? 1 : 3); round++) {
    std::fill(all.out.begin(), all.out.end(), -77.0f);
    pool.run(attention_items(all.args), [&](int i) { kernels.attention_rows(all.args, i, i + 1); });
    check(same(all.out, wanted), "%s: threads differ", isa_name(isa));
    std::vector<float> partials(attention_partial_floats(all.args));
    std::fill(all.out.begin(), all.out.end(), -77.0f);
    pool.run(attention_parts(all.args), [&](int i) {
      kernels.attention_chunks(all.args, partials.data(), i, i + 1);
    });
    pool.run(attention_items(all.args), [&](int i) {
      kernels.attention_combine(all.args, partials.data(), i, i + 1);
    });
    check(same(all.out, wanted), "%s: threads with parts differ", isa_name(isa));
  }
  all.args.sequence_count = 0;
  check(attention_items(all.args) == 0 && attention_parts(all.args) == 0, "items of nothing");
}

/** Odd numbers in keys and values show in the rows that see them, and nowhere else. */
void test_odd_numbers(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  const KvShape kv{1, 16, 16, KvDtype::f32};
  constexpr int HEADS = 3, CONTEXT = 290, ROWS = 20, FIRST = CONTEXT - ROWS;
  for (int window : {0, 9}) {
    for (int at : {280, 274, 100}) {
      for (float odd : {std::nanf(""), INF, -INF}) {
        if (is_short && (at != 280 || odd == -INF)) continue;
        for (bool in_keys : {true, false}) {
          Cache cache(kernels, kv, CONTEXT, 1);
          Query query(cache, HEADS, FIRST, ROWS, 3);
          query.args.window = window;
          kernels.attention_rows(query.args, 0, attention_items(query.args));
          const std::vector<float> wanted = query.out;
          (in_keys ? cache.k : cache.v)[size_t(at) * 16 + 3] = odd;
          cache.append(kernels, 0, CONTEXT);
          kernels.attention_rows(query.args, 0, attention_items(query.args));
          bool right = true;
          for (size_t i = 0; i < wanted.size(); i++) {
            const int position = FIRST + int(i / (HEADS * 16));
            const bool sees = at <= position && (window == 0 || at > position - window);
            if (!sees) right = right && same_bits(query.out[i], wanted[i]);
            // A key of -Inf may only take all weight from itself.
            else if (!in_keys && i % 16 == 3) right = right && !std::isfinite(query.out[i]);
            else if (in_keys && std::isnan(odd)) right = right && std::isnan(query.out[i]);
          }
          check(right, "%s: %g in a %s at %d, window %d", isa_name(isa), double(odd),
                in_keys ? "key" : "value", at, window);
        }
      }
    }
  }
}

/** Blocks that no row sees are not touched: they may be gone. */
void test_freed_blocks(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  Cache cache(kernels, {2, 16, 16, KvDtype::f32}, 600, 1);
  Query query(cache, 4, 590, 10, 3);
  query.args.window = 50;
  kernels.attention_rows(query.args, 0, attention_items(query.args));
  const std::vector<float> wanted = query.out;
  for (int b = 0; b < (590 + 1 - 50) / KV_BLOCK; b++) cache.blocks[size_t(b)] = nullptr;
  kernels.attention_rows(query.args, 0, attention_items(query.args));
  check(same(query.out, wanted), "%s: freed blocks", isa_name(isa));
  run_parts(kernels, query.args);
  check(same(query.out, wanted), "%s: freed blocks, in parts", isa_name(isa));
}

/** The layout that kv_cache.h promises, and rows appended in any split. */
void test_layout(Isa isa, KvDtype dtype) {
  const RowKernels& kernels = row_kernels(isa);
  const KvShape kv{2, 5, 16, dtype};
  const Cache cache(kernels, kv, 45, 1);
  const size_t item = dtype == KvDtype::f32 ? 4 : 2;
  check(kv_block_bytes(kv) == 2 * 32 * (5 + 16) * item, "bytes of a block");
  const auto element = [&](int block, size_t index) {
    const uint8_t* at = cache.blocks[size_t(block)] + index * item;
    float wide;
    uint16_t half;
    if (dtype == KvDtype::f32) return memcpy(&wide, at, 4), wide;
    return memcpy(&half, at, 2), f16_to_f32(half);
  };
  const KvContents kept = cache.kept();
  bool right = true;
  for (int p = 0; p < 64; p++) {
    for (int h = 0; h < 2; h++) {
      for (int d = 0; d < 16; d++) {
        const size_t half = size_t(p % 32 / 16);
        const size_t head = size_t(h), at = size_t(d);
        const size_t k_at = ((head * 2 + half) * 5 + at) * 16 + size_t(p % 16);
        const size_t v_at = 2 * 32 * 5 + (head * 32 + size_t(p % 32)) * 16 + at;
        const float k = d < 5 ? element(p / 32, k_at) : 0, v = element(p / 32, v_at);
        if (p >= 45) {
          right = right && (d >= 5 || std::isnan(k)) && std::isnan(v);
          continue;
        }
        const size_t row = size_t(p);
        if (d < 5) right = right && same_bits(k, kept.k[row * 10 + size_t(h * 5 + d)]);
        right = right && same_bits(v, kept.v[row * 32 + size_t(h * 16 + d)]);
      }
    }
  }
  check(right, "%s: layout of the cache", isa_name(isa));
}

/** Scores so far apart that weights vanish, and a sink that takes nearly all. */
void test_extremes(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  Cache cache(kernels, {1, 16, 16, KvDtype::f32}, 520, 1);
  for (float& k : cache.k) k *= 40;
  cache.append(kernels, 0, 520);
  Query query(cache, 2, 519, 1, 3);
  const float sinks[] = {1e4f, -1e4f};
  for (const float* sink : {static_cast<const float*>(nullptr), sinks}) {
    query.args.sinks = sink;
    kernels.attention_rows(query.args, 0, attention_items(query.args));
    double worst = 0;
    for (int head = 0; head < 2; head++) {
      const auto wanted = expected(cache, cache.kept(), query.args, 0, head);
      for (size_t d = 0; d < 16; d++) {
        const double difference = double(query.out[size_t(head) * 16 + d]) - wanted[d];
        worst = std::fmax(worst, std::fabs(difference));
      }
    }
    check(worst < 2e-4, "%s: far scores: off by %g", isa_name(isa), worst);
  }
}

}  // namespace

int main(int argc, char** argv) {
  is_short = argc > 1 && std::string(argv[1]) == "short";
  test_grid();
  for (Isa isa : supported_isas()) {
    test_sequences(isa);
    test_odd_numbers(isa);
    test_freed_blocks(isa);
    test_layout(isa, KvDtype::f32);
    test_layout(isa, KvDtype::f16);
    test_extremes(isa);
  }
  return summary();
}

// Tests of caches of 8 and 4 bits, on every instruction set of this machine: how far an element is
// off, that a position is quantised alone, and that attention has the bits which an f32 cache with
// the same numbers gives. Argument "short": a smaller grid.
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
constexpr KvDtype QUANTIZED[] = {KvDtype::q8, KvDtype::q4};

bool is_short = false;

int largest_code(KvDtype dtype) { return dtype == KvDtype::q8 ? 255 : 15; }

std::string describe(Isa isa, const KvShape& kv) {
  return std::string(isa_name(isa)) + ", " + std::to_string(largest_code(kv.dtype)) +
         " steps, dims " + std::to_string(kv.key_dim) + "/" + std::to_string(kv.value_dim);
}

bool equal_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same_bits);
}

bool equal_memory(const Cache& a, const Cache& b) {
  bool equal = a.memory.size() == b.memory.size();
  for (size_t i = 0; equal && i < a.memory.size(); i++) {
    equal = memcmp(a.memory[i].data(), b.memory[i].data(), kv_block_bytes(a.shape)) == 0;
  }
  return equal;
}

/** Bytes of a block of two KV heads, counted by hand. */
void test_bytes() {
  const auto bytes = [](int key_dim, int value_dim, KvDtype dtype) {
    return kv_block_bytes({2, key_dim, value_dim, dtype});
  };
  check(bytes(64, 64, KvDtype::q8) == 2 * 32 * 2 * (64 + 4), "q8 of 64");
  check(bytes(64, 64, KvDtype::q4) == 2 * 32 * 2 * (32 + 4), "q4 of 64");
  check(bytes(128, 128, KvDtype::q4) == 2 * 32 * 2 * (64 + 8), "q4 of 128");
  check(bytes(80, 80, KvDtype::q8) == 2 * 32 * 2 * (80 + 8), "q8 of 80");
  check(bytes(80, 80, KvDtype::q4) == 2 * 32 * (40 + 48 + 16), "q4 of 80: values in 16 bytes");
  check(bytes(7, 16, KvDtype::q4) == 2 * 32 * (4 + 16 + 8), "q4 of 7 and 16");
}

/** One group: no element off by more than half a scale, and no scale wider than it must be. */
void test_group(const std::string& name, KvDtype dtype, const float* x, int count,
                const std::vector<KvElement>& found) {
  const auto [least, most] = std::minmax_element(x, x + count);
  const double scale = double(found[0].scale), range = double(*most) - double(*least);
  // An f16 has eleven bits; below 2^-14 they are 2^-24 apart.
  const double lost = std::fmax(std::fabs(double(*least)) * 0x1p-10, 0x1p-24);
  const double widest = (range + lost) / largest_code(dtype);
  check(scale <= std::fmax(widest * (1 + 0x1p-10), widest + 0x1p-24) * (1 + 1e-6),
        "%s: a scale of %g for a range of %g", name.c_str(), scale, range);
  for (int d = 0; d < count; d++) {
    const KvElement& element = found[size_t(d)];
    const double off = std::fabs(double(element.value()) - double(x[d]));
    const double allowed = scale / 2 + 1e-6 * (std::fabs(double(x[d])) + range);
    check(off <= allowed, "%s: %g read as %g, with a scale of %g", name.c_str(), double(x[d]),
          double(element.value()), scale);
    check(element.scale == found[0].scale && element.bias == found[0].bias &&
              element.code <= largest_code(dtype),
          "%s: elements of a group differ in scale", name.c_str());
  }
}

/** Every element of caches whose numbers are of many sizes. */
void test_round_trip(Isa isa, const KvShape& kv) {
  const RowKernels& kernels = row_kernels(isa);
  const int positions = is_short ? 35 : 70;
  Cache cache(kernels, kv, positions, 1);
  for (int p = 0; p < positions; p++) {
    const float sizes[] = {1, 0, 1e-7f, 3e-5f, 40, 60000}, offsets[] = {0, 0.3f, -5, 900};
    const auto change = [&](float& x) { x = x * sizes[p % 6] + offsets[p / 6 % 4]; };
    for (size_t i = 0; i < cache.k_width(); i++) {
      float& x = cache.k[size_t(p) * cache.k_width() + i];
      change(x);
      x = std::fmod(x, 8000.0f);  // Turned, they must still be in the range of f16.
    }
    for (size_t i = 0; i < cache.v_width(); i++) change(cache.v[size_t(p) * cache.v_width() + i]);
  }
  cache.append(kernels, 0, positions);
  std::vector<float> turned = cache.k;
  turn_rows(turned, kv.key_dim, false);
  const std::string name = describe(isa, kv);
  const auto each = [&](int dim, const float* x, auto element) {
    for (int first = 0; first < dim; first += KV_GROUP) {
      const int count = std::min(KV_GROUP, dim - first);
      std::vector<KvElement> found;
      for (int d = first; d < first + count; d++) found.push_back(element(d));
      test_group(name, kv.dtype, x + first, count, found);
    }
  };
  for (int p = 0; p < positions; p++) {
    for (int h = 0; h < kv.kv_heads; h++) {
      const KvReader head(kv, cache.blocks[size_t(p / KV_BLOCK)], h);
      const float* k = turned.data() + size_t(p) * cache.k_width() + size_t(h * kv.key_dim);
      const float* v = cache.v.data() + size_t(p) * cache.v_width() + size_t(h * kv.value_dim);
      each(kv.key_dim, k, [&](int d) { return head.key(p % KV_BLOCK, d); });
      each(kv.value_dim, v, [&](int d) { return head.value(p % KV_BLOCK, d); });
    }
  }
  // The same bytes one position at a time, last to first, and from scalar code.
  Cache alone(kernels, kv, positions, 1), scalar(row_kernels(Isa::scalar), kv, positions, 1);
  alone.k = scalar.k = cache.k;
  alone.v = scalar.v = cache.v;
  for (int p = positions; p-- > 0;) alone.append(kernels, p, p + 1);
  scalar.append(row_kernels(Isa::scalar), 0, positions);
  check(equal_memory(cache, alone), "%s: a position alone differs", name.c_str());
  check(equal_memory(cache, scalar), "%s: instruction sets differ", name.c_str());
}

/** Attention over a quantised cache, and over an f32 one with the numbers that are left in it. */
void test_against_f32(Isa isa, const KvShape& kv, int position, int rows, int window) {
  const RowKernels& kernels = row_kernels(isa);
  KvShape plain = kv;
  plain.dtype = KvDtype::f32;
  const int heads = kv.kv_heads * 5, positions = position + rows;
  const Cache cache(kernels, kv, positions, 1);
  Cache twin(kernels, plain, positions, 1);
  const KvContents kept = cache.kept();
  twin.k = kept.k;
  twin.v = kept.v;
  twin.append(kernels, 0, positions);
  Query found(cache, heads, position, rows, 3), wanted(twin, heads, position, rows, 3);
  turn_rows(wanted.q, kv.key_dim, true);
  found.args.window = wanted.args.window = window;
  kernels.attention_rows(found.args, 0, attention_items(found.args));
  kernels.attention_rows(wanted.args, 0, attention_items(wanted.args));
  check(equal_bits(found.out, wanted.out), "%s, %d rows at %d, window %d: f32 differs",
        describe(isa, kv).c_str(), rows, position, window);
}

/** What keys and values lose shows in the outcome, and by little: turned keys give equal scores. */
void test_near_f32(Isa isa, const KvShape& kv) {
  const RowKernels& kernels = row_kernels(isa);
  KvShape plain = kv;
  plain.dtype = KvDtype::f32;
  const Cache cache(kernels, kv, 90, 1), whole(kernels, plain, 90, 1);
  Query found(cache, 3, 40, 50, 3), wanted(whole, 3, 40, 50, 3);
  kernels.attention_rows(found.args, 0, attention_items(found.args));
  kernels.attention_rows(wanted.args, 0, attention_items(wanted.args));
  const double off = far_apart(found.out, wanted.out);
  const double most = kv.dtype == KvDtype::q8 ? 0.04 : 0.6;
  check(off > most / 1000 && off < most, "%s: off by %g", describe(isa, kv).c_str(), off);
}

/** Sequences that share blocks, on threads, in items and in parts: each as it is alone. */
void test_threads(Isa isa, KvDtype dtype) {
  const RowKernels& kernels = row_kernels(isa);
  const KvShape kv{2, 16, 32, dtype};
  Cache a(kernels, kv, 300, 1), fork(kernels, kv, 290, 20);
  std::copy(a.blocks.begin(), a.blocks.begin() + 4, fork.blocks.begin());
  Query all(a, 6, 0, 20, 3);
  const KvSequence sequences[] = {{a.blocks.data(), 0, 3, 297}, {fork.blocks.data(), 3, 17, 273}};
  all.args.sequences = sequences;
  all.args.sequence_count = 2;
  std::vector<float> wanted(all.out.size());
  for (const KvSequence& one : sequences) {
    AttentionArgs args = all.args;
    args.sequences = &one;
    args.sequence_count = 1;
    args.out.data = wanted.data();
    kernels.attention_rows(args, 0, attention_items(args));
  }
  Pool pool(3);
  pool.run(attention_items(all.args), [&](int i) { kernels.attention_rows(all.args, i, i + 1); });
  check(equal_bits(all.out, wanted), "%s: threads differ", isa_name(isa));
  std::fill(all.out.begin(), all.out.end(), -77.0f);
  std::vector<float> partials(attention_partial_floats(all.args), NAN);
  pool.run(attention_parts(all.args), [&](int i) {
    kernels.attention_chunks(all.args, partials.data(), i, i + 1);
  });
  kernels.attention_combine(all.args, partials.data(), 0, attention_items(all.args));
  check(equal_bits(all.out, wanted), "%s: parts on threads differ", isa_name(isa));
}

/** NaN and Inf are read as NaN in their group alone; what f16 cannot hold stays at its end. */
void test_odd_numbers(Isa isa, KvDtype dtype) {
  const RowKernels& kernels = row_kernels(isa);
  const KvShape kv{1, 80, 80, dtype};
  constexpr int CONTEXT = 290, AT = 270;
  for (float odd : {std::nanf(""), INF, -INF}) {
    Cache cache(kernels, kv, CONTEXT, 1);
    const KvContents before = cache.kept();
    for (int d : {3, 70}) {
      cache.k[AT * 80 + size_t(d)] = cache.v[AT * 80 + size_t(d)] = odd;
      cache.append(kernels, AT, AT + 1);
      const KvContents after = cache.kept();
      bool right = true;
      for (size_t i = 0; i < after.k.size(); i++) {
        const bool is_hit = i / 80 == AT && (d == 70 || i % 80 < 64);
        right = right && (is_hit ? std::isnan(after.k[i]) && std::isnan(after.v[i])
                                 : same_bits(after.k[i], before.k[i]));
      }
      check(right, "%s: %g at %d in a group", isa_name(isa), double(odd), d);
    }
    Query query(cache, 2, CONTEXT - 30, 30, 3);
    kernels.attention_rows(query.args, 0, attention_items(query.args));
    bool right = true;
    for (size_t i = 0; i < query.out.size(); i++) {
      right = right && std::isnan(query.out[i]) == (i / 160 + CONTEXT - 30 >= AT);
    }
    check(right, "%s: %g shows where it is not seen", isa_name(isa), double(odd));
  }
  Cache cache(kernels, kv, 1, 1);
  std::fill(cache.k.begin(), cache.k.end(), 1e9f);
  cache.v[1] = 1e9f;
  cache.v[2] = -3e38f;
  std::fill(cache.v.begin() + 64, cache.v.end(), 2.5f);
  cache.append(kernels, 0, 1);
  const KvContents kept = cache.kept();
  const float step = 2 * 65504.0f / float(largest_code(dtype)) * (1 + 0x1p-10f);
  check(std::fabs(kept.v[1] - 65504) <= step && kept.v[2] == -65504, "%s: read as %g and %g",
        isa_name(isa), double(kept.v[1]), double(kept.v[2]));
  check(std::all_of(kept.k.begin(), kept.k.end(), [](float x) { return std::isfinite(x); }),
        "%s: a large key is not finite", isa_name(isa));
  check(std::all_of(kept.v.begin() + 64, kept.v.end(), [](float x) { return x == 2.5f; }),
        "%s: equal numbers", isa_name(isa));
}

/** Blocks that no row sees are not touched: they may be gone. */
void test_freed_blocks(Isa isa, KvDtype dtype) {
  const RowKernels& kernels = row_kernels(isa);
  Cache cache(kernels, {2, 16, 16, dtype}, 600, 1);
  Query query(cache, 4, 590, 10, 3);
  query.args.window = 50;
  kernels.attention_rows(query.args, 0, attention_items(query.args));
  const std::vector<float> wanted = query.out;
  for (int b = 0; b < (590 + 1 - 50) / KV_BLOCK; b++) cache.blocks[size_t(b)] = nullptr;
  kernels.attention_rows(query.args, 0, attention_items(query.args));
  check(equal_bits(query.out, wanted), "%s: freed blocks", isa_name(isa));
}

}  // namespace

int main(int argc, char** argv) {
  is_short = argc > 1 && std::string(argv[1]) == "short";
  test_bytes();
  for (Isa isa : supported_isas()) {
    for (KvDtype dtype : QUANTIZED) {
      test_round_trip(isa, {2, 64, 64, dtype});
      test_round_trip(isa, {1, 7, 16, dtype});
      test_round_trip(isa, {1, 80, 112, dtype});
      if (!is_short) test_round_trip(isa, {1, 512, 512, dtype});
      test_against_f32(isa, {2, 64, 64, dtype}, 700, 1, 0);
      test_against_f32(isa, {1, 33, 48, dtype}, 250, 13, 0);
      test_against_f32(isa, {1, 80, 80, dtype}, 300, 4, 40);
      if (!is_short) {
        test_against_f32(isa, {1, 64, 64, dtype}, 0, 290, 0);
        test_against_f32(isa, {1, 512, 512, dtype}, 500, 12, 100);
        test_against_f32(isa, {1, 257, 272, dtype}, 500, 12, 0);
      }
      for (int dim : {1, 7, 33, 64, 80, 112, 256}) test_near_f32(isa, {1, dim, 64, dtype});
      test_threads(isa, dtype);
      test_odd_numbers(isa, dtype);
      test_freed_blocks(isa, dtype);
    }
  }
  return summary();
}

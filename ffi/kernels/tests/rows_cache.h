// What the tests of attention share: a paged cache of random keys and values.
#pragma once
#include <vector>

#include "../rows.h"
#include "kv_reader.h"
#include "testing.h"

namespace exo::kernels::testing {

/** Numbers like those of Noise(seed).uniform(), times `factor`. */
inline std::vector<float> noise(uint32_t seed, size_t count, float factor = 1) {
  Noise random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = random.uniform() * factor;
  return values;
}

/**
 * A Hadamard matrix times each group of x, as kv_cache.h says: of 64 dimensions, or of the largest
 * power of two that is left. Keys and queries share the factor that makes it orthogonal.
 */
inline void turn(float* x, int dim, bool is_query) {
  for (int first = 0; first < dim;) {
    int n = 1, log = 0;
    while (n < KV_GROUP && first + 2 * n <= dim) n *= 2, log++;
    for (int bit = 1; bit < n; bit *= 2) {
      for (int i = first; i < first + n; i++) {
        if ((i - first) & bit) continue;
        const float a = x[i], b = x[i + bit];
        x[i] = a + b;
        x[i + bit] = a - b;
      }
    }
    for (int i = first; i < first + n; i++) {
      x[i] = std::ldexp(x[i], is_query ? -(log + 1) / 2 : -(log / 2));
    }
    first += n;
  }
}

/** Turns each head of each row of x [rows, heads * dim]. */
inline void turn_rows(std::vector<float>& x, int dim, bool are_queries) {
  for (size_t at = 0; at < x.size(); at += size_t(dim)) turn(x.data() + at, dim, are_queries);
}

/** Keys and values as a cache gives them back: [positions, kv_heads * dim]. */
struct KvContents {
  std::vector<float> k, v;
};

/** One sequence's blocks and what was put into them. Bytes that were not are NaN. */
struct Cache {
  KvShape shape;
  std::vector<float> k, v;  // [positions, kv_heads * dim]
  std::vector<Bytes> memory;
  std::vector<uint8_t*> blocks;

  Cache(const RowKernels& kernels, const KvShape& kv, int positions, uint32_t seed) : shape(kv) {
    k = noise(seed, size_t(positions) * k_width());
    v = noise(seed + 1, size_t(positions) * v_width());
    append(kernels, 0, positions);
  }

  size_t k_width() const { return size_t(shape.kv_heads) * size_t(shape.key_dim); }
  size_t v_width() const { return size_t(shape.kv_heads) * size_t(shape.value_dim); }

  /** What is left of k and v in the cache; of quantised keys, as they are turned. */
  KvContents kept() const {
    KvContents all{k, v};
    const auto round = [](float& x) { x = f16_to_f32(f32_to_f16(x)); };
    if (shape.dtype == KvDtype::f16) {
      for (float& x : all.k) round(x);
      for (float& x : all.v) round(x);
    }
    if (!is_quantized(shape.dtype)) return all;
    for (size_t p = 0; p * k_width() < k.size(); p++) {
      for (int h = 0; h < shape.kv_heads; h++) {
        const KvReader head(shape, blocks[p / KV_BLOCK], h);
        float* to_k = all.k.data() + p * k_width() + size_t(h * shape.key_dim);
        float* to_v = all.v.data() + p * v_width() + size_t(h * shape.value_dim);
        for (int d = 0; d < shape.key_dim; d++) to_k[d] = head.key(p % KV_BLOCK, d).value();
        for (int d = 0; d < shape.value_dim; d++) to_v[d] = head.value(p % KV_BLOCK, d).value();
      }
    }
    return all;
  }

  /** Puts the positions begin..end-1 of k and v into the cache. */
  void append(const RowKernels& kernels, int begin, int end) {
    while (int(blocks.size()) * KV_BLOCK < end) {
      memory.emplace_back(kv_block_bytes(shape));
      memset(memory.back().data(), 0xFF, kv_block_bytes(shape));
      blocks.push_back(memory.back().data());
    }
    const ConstRows keys{k.data() + size_t(begin) * k_width(), k_width()};
    const ConstRows values{v.data() + size_t(begin) * v_width(), v_width()};
    kernels.kv_append({shape, blocks.data(), begin, keys, values}, 0, end - begin);
  }
};

/** Queries, outcome and arguments of an attention over one sequence's last rows. */
struct Query {
  std::vector<float> q, out;
  KvSequence sequence;
  AttentionArgs args;

  Query(const Cache& cache, int heads, int position, int rows, uint32_t seed)
      : q(noise(seed, size_t(rows) * size_t(heads * cache.shape.key_dim), 3)),
        out(size_t(rows) * size_t(heads * cache.shape.value_dim), -77.0f),
        sequence{cache.blocks.data(), 0, rows, position} {
    args.kv = cache.shape;
    args.heads = heads;
    args.q = {q.data(), size_t(heads * cache.shape.key_dim)};
    args.out = {out.data(), size_t(heads * cache.shape.value_dim)};
    args.sequences = &sequence;
    args.sequence_count = 1;
    args.scale = 0.25f;
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
};

}  // namespace exo::kernels::testing

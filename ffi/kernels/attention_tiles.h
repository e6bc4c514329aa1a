// The two inner products of attention, for tiles of query vectors that stay in registers.
#pragma once
#include "attention.h"
#include "kv_impl.h"

namespace exo::kernels::EXO_ISA {

// 32 registers hold 24 sums, 16 registers hold 12, besides what is multiplied.
constexpr int REGISTER_SUMS = WIDTH == 16 ? 24 : 12;
/** Most query vectors in a tile: each has two registers of sums. */
constexpr int TILE = REGISTER_SUMS / 2;
static_assert(ATTENTION_ITEM % TILE == 0);

/** The power of two up to 4 times `unit` that `count` registers allow for each of `q` vectors. */
constexpr int registers_each(int q, int unit) {
  return 4 * unit * q <= REGISTER_SUMS ? 4 * unit : 2 * unit * q <= REGISTER_SUMS ? 2 * unit : unit;
}

/**
 * scores[r * ATTENTION_CHUNK + 16 t + lane] = sum over d of q[d * Q + r] * keys[t][16 d + lane], by
 * fma in the order of d, for r < Q and T tiles of 16 positions.
 */
template <int Q, int T, class E>
EXO_LARGE_INLINE void score_tiles(const float* q, const E* const* keys, int key_dim,
                                  float* scores) {
  F sums[Q][T * PARTS];
  EXO_UNROLL for (int r = 0; r < Q; r++) {
    EXO_UNROLL for (int i = 0; i < T * PARTS; i++) sums[r][i] = zero();
  }
  const E* tiles[T];
  EXO_UNROLL for (int t = 0; t < T; t++) tiles[t] = keys[t];
  for (int d = 0; d < key_dim; d++) {
    F k[T * PARTS];
    EXO_UNROLL for (int i = 0; i < T * PARTS; i++) {
      k[i] = load_element(tiles[i / PARTS] + d * LANES + i % PARTS * WIDTH);
    }
    EXO_UNROLL for (int r = 0; r < Q; r++) {
      const F x = broadcast(q[d * Q + r]);
      EXO_UNROLL for (int i = 0; i < T * PARTS; i++) sums[r][i] = fma(x, k[i], sums[r][i]);
    }
  }
  EXO_UNROLL for (int r = 0; r < Q; r++) {
    EXO_UNROLL for (int i = 0; i < T * PARTS; i++) {
      store(scores + r * ATTENTION_CHUNK + i * WIDTH, sums[r][i]);
    }
  }
}

/** Scores of tiles begin..end-1. */
template <int Q, class E>
static void score(const float* q, const E* const* keys, int key_dim, int begin, int end,
                  float* scores) {
  constexpr int T = registers_each(Q, PARTS) / PARTS;
  for (int t = begin; t < end; t += T) {
    if (t + T <= end) score_tiles<Q, T>(q, keys + t, key_dim, scores + t * LANES);
    else for (int one = t; one < end; one++) {
      score_tiles<Q, 1>(q, keys + one, key_dim, scores + one * LANES);
    }
  }
}

/**
 * out[r * dim + d] += sum of weights[r * ATTENTION_CHUNK + p] * values[p][d] for p in begin..end-1,
 * by fma in the order of p, for r < Q and N registers of dimensions from `from`. values[b] holds
 * the positions from KV_BLOCK * b.
 */
template <int Q, int N, class E>
EXO_LARGE_INLINE void weigh_columns(const float* weights, const E* const* values, int dim,
                                    int from, int begin, int end, float* out) {
  F sums[Q][N];
  EXO_UNROLL for (int r = 0; r < Q; r++) {
    EXO_UNROLL for (int i = 0; i < N; i++) sums[r][i] = load(out + r * dim + from + i * WIDTH);
  }
  for (int p = begin; p < end;) {
    const int stop = end < (p | (KV_BLOCK - 1)) + 1 ? end : (p | (KV_BLOCK - 1)) + 1;
    const E* v = values[p / KV_BLOCK] + (p % KV_BLOCK) * dim + from;
    for (; p < stop; p++, v += dim) {
      F x[N];
      EXO_UNROLL for (int i = 0; i < N; i++) x[i] = load_element(v + i * WIDTH);
      EXO_UNROLL for (int r = 0; r < Q; r++) {
        const F weight = broadcast(weights[r * ATTENTION_CHUNK + p]);
        EXO_UNROLL for (int i = 0; i < N; i++) sums[r][i] = fma(weight, x[i], sums[r][i]);
      }
    }
  }
  EXO_UNROLL for (int r = 0; r < Q; r++) {
    EXO_UNROLL for (int i = 0; i < N; i++) store(out + r * dim + from + i * WIDTH, sums[r][i]);
  }
}

/** The same over all dimensions, a multiple of 16. */
template <int Q, class E>
static void weigh(const float* weights, const E* const* values, int dim, int begin, int end,
                  float* out) {
  constexpr int N = registers_each(Q, 1) > PARTS ? registers_each(Q, 1) : PARTS;
  int from = 0;
  for (; from + N * WIDTH <= dim; from += N * WIDTH) {
    weigh_columns<Q, N>(weights, values, dim, from, begin, end, out);
  }
  for (; from < dim; from += LANES) {
    weigh_columns<Q, PARTS>(weights, values, dim, from, begin, end, out);
  }
}

/** Vectors that a tile of `count` is computed as: the next size that has code. */
EXO_INLINE int padded(int count) {
  return count <= 4 ? count : count <= 6 ? 6 : count <= 8 ? 8 : 12;
}

/** Calls f with the number of vectors of a padded tile as a constant. */
template <class Call>
EXO_INLINE void with_tile(int q, Call call) {
  switch (q) {
    case 1: return call.template operator()<1>();
    case 2: return call.template operator()<2>();
    case 3: return call.template operator()<3>();
    case 4: return call.template operator()<4>();
    case 6: return call.template operator()<6>();
  }
  if constexpr (TILE > 6) {
    if (q == 8) return call.template operator()<8>();
    return call.template operator()<12>();
  }
}

}  // namespace exo::kernels::EXO_ISA

// Attention of query rows over a paged KV cache. Source: arXiv:1706.03762; grouped queries:
// arXiv:2305.13245; parts of a softmax combined: arXiv:2205.14135.
//
// The arithmetic of a (row, head) is the same for one query and for many: keys are cut into chunks
// of ATTENTION_CHUNK positions from position 0. A chunk gives (largest score, sum of weights,
// weighted sum of values): scores by fma over dimensions in order; exp(score - largest); 16 partial
// sums by position, then one tree; values by fma over positions in order. Chunks are combined in
// order. Keys that a row does not see are never part of it, whatever they hold.
#pragma once
#include "kv_cache.h"

namespace exo::kernels {

/** Positions in a chunk. */
constexpr int ATTENTION_CHUNK = 256;
/** Query vectors (row, head) of one KV head in an item, at most. */
constexpr int ATTENTION_ITEM = 48;

/** Rows of one sequence at consecutive positions; their keys and values are in the cache. */
struct KvSequence {
  const uint8_t* const* blocks = nullptr;
  int first_row = 0;  // In q and out.
  int rows = 0;
  int position = 0;  // Of the first row. A row sees the keys up to its own position.
};

struct AttentionArgs {
  KvShape kv;
  int heads = 0;  // A multiple of kv.kv_heads; head h reads KV head h / (heads / kv_heads).
  ConstRows q;    // [rows, heads * key_dim], rotary applied.
  Rows out;       // [rows, heads * value_dim]. Not q.
  const KvSequence* sequences = nullptr;
  int sequence_count = 0;
  float scale = 1;               // Of the scores: multiplied into q.
  float softcap = 0;             // Scores become softcap * tanh(score / softcap); 0: they do not.
  int window = 0;                // A row sees its last `window` keys; 0: all. Others may be gone.
  const float* sinks = nullptr;  // [heads] scores without a value, as in gpt-oss; null: none.
};

/** attention_rows(args, begin, end) computes items begin..end-1 of these; every item once. */
int attention_items(const AttentionArgs& args);

/**
 * For few rows and long contexts, items come in parts, one for each chunk of keys:
 * attention_chunks() computes parts begin..end-1 of these into `partials`; when all are done,
 * attention_combine() makes items begin..end-1 of them. The bits are those of attention_rows().
 */
int attention_parts(const AttentionArgs& args);

/** Floats that `partials` must have room for. */
size_t attention_partial_floats(const AttentionArgs& args);

/** What an item is. Internal to the kernels. */
struct AttentionItem {
  const KvSequence* sequence;
  int kv_head;
  int first;        // Its vectors are first..first+count-1; vector v is the sequence's row
  int count;        // v / group and head kv_head * group + v % group; group = heads / kv_heads.
  int chunk_begin;  // Chunks of keys that some row of the sequence sees.
  int chunk_end;
  int first_part;
};

/** Item number `item`. */
AttentionItem attention_item(const AttentionArgs& args, int item);

/** The item that part number `part` belongs to: its chunk is chunk_begin + part - first_part. */
AttentionItem attention_item_of_part(const AttentionArgs& args, int part);

/** Floats from one part's partials to the next's: (value_dim + 2) for each vector. */
size_t attention_partial_stride(const AttentionArgs& args);

}  // namespace exo::kernels

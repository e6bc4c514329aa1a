// The rest of a step besides the linears, on f32 rows: norms, rotary, activations, attention over a
// paged KV cache, softmax, argmax, top-k. Start here; the headers below say what each one does.
//
// Every function works on one thread, over the rows (or items) begin..end-1 of its call; the caller
// splits the work. A row's result depends on that row (and its own keys and values) alone, bit for
// bit: not on the other rows, the split, the threads or the instruction set. (NaN has many bits;
// which of them come out is not promised.) No function allocates memory.
#pragma once
#include "activation.h"
#include "attention.h"
#include "dispatch.h"
#include "kv_cache.h"
#include "norm.h"
#include "rope.h"
#include "rows_softmax.h"
#include "sample_filter.h"
#include "topk.h"

namespace exo::kernels {

/** One instruction set's functions. What each does is said where its arguments are declared. */
struct RowKernels {
  void (*rms_norm)(const NormArgs&, int begin, int end);
  void (*layer_norm)(const NormArgs&, int begin, int end);
  void (*add_rms_norm)(const AddNormArgs&, int begin, int end);
  void (*rope)(const RopeArgs&, int begin, int end);
  void (*elementwise)(Elementwise, const ElementwiseArgs&, int begin, int end);
  void (*softmax)(const SoftmaxArgs&, int begin, int end);
  void (*log_sum_exp)(const ReduceArgs&, float* out, int begin, int end);
  void (*argmax)(const ReduceArgs&, int32_t* out, int begin, int end);
  TopKScan top_k_scan;  // Used by top_k() and filter(); no one else needs it.
  Weigh weigh;
  Rungs rungs;
  void (*kv_append)(const KvAppendArgs&, int begin, int end);
  void (*attention_rows)(const AttentionArgs&, int begin, int end);
  void (*attention_chunks)(const AttentionArgs&, float* partials, int begin, int end);
  void (*attention_combine)(const AttentionArgs&, const float* partials, int begin, int end);
};

/** The functions for one instruction set, which isa_supported() must have accepted. */
const RowKernels& row_kernels(Isa isa);

/** The functions for chosen_isa(). @throws std::runtime_error as that does. */
const RowKernels& row_kernels();

}  // namespace exo::kernels

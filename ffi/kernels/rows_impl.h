// All functions of rows.h for one instruction set. Include after one of the simd_*.h headers.
#pragma once
#include "activation_impl.h"
#include "attention_impl.h"
#include "kv_impl.h"
#include "norm_impl.h"
#include "rope_impl.h"
#include "rows.h"
#include "rows_softmax_impl.h"
#include "sample_impl.h"
#include "topk_impl.h"

namespace exo::kernels::EXO_ISA {

extern const RowKernels ROW_KERNELS;
const RowKernels ROW_KERNELS{
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .add_rms_norm = add_rms_norm,
    .rope = rope,
    .elementwise = elementwise,
    .softmax = softmax,
    .log_sum_exp = log_sum_exp,
    .argmax = argmax,
    .top_k_scan = top_k_scan,
    .weigh = weigh,
    .rungs = rungs,
    .kv_append = kv_append,
    .attention_rows = attention_rows,
    .attention_chunks = attention_chunks,
    .attention_combine = attention_combine,
};

}  // namespace exo::kernels::EXO_ISA

// Generated from declarations.ts by generate_header.ts; do not edit.
#pragma once
#include <cstdint>

extern "C" {
int32_t shim_last_message(uint8_t* out, int32_t capacity);
int32_t shim_take_text(uint8_t* out, int32_t capacity);
int32_t shim_take_handles(int32_t* out, int32_t capacity);
int32_t shim_scope_enter();
int32_t shim_scope_leave(int32_t depth);
int32_t shim_keep(int32_t x);
int32_t shim_free(int32_t x);
int32_t shim_live_arrays();
int32_t shim_describe(int32_t x, int32_t* out, int32_t capacity);
int32_t shim_eval(const int32_t* arrays, int32_t count);
int32_t shim_async_eval(const int32_t* arrays, int32_t count);
int32_t shim_item(int32_t x, double* value);
int32_t shim_read(int32_t x, int32_t type, uint8_t* out, double capacity);
int32_t shim_zeros(const int32_t* shape, int32_t ndim, int32_t type);
int32_t shim_ones(const int32_t* shape, int32_t ndim, int32_t type);
int32_t shim_full(double value, const int32_t* shape, int32_t ndim, int32_t type);
int32_t shim_arange(double start, double stop, double step, int32_t type);
int32_t shim_scalar(double value, int32_t type);
int32_t shim_from_bytes(
    const uint8_t* data,
    double byte_count,
    const int32_t* shape,
    int32_t ndim,
    int32_t type);
int32_t shim_negative(int32_t x);
int32_t shim_abs(int32_t x);
int32_t shim_square(int32_t x);
int32_t shim_sqrt(int32_t x);
int32_t shim_rsqrt(int32_t x);
int32_t shim_reciprocal(int32_t x);
int32_t shim_exp(int32_t x);
int32_t shim_log(int32_t x);
int32_t shim_log1p(int32_t x);
int32_t shim_sin(int32_t x);
int32_t shim_cos(int32_t x);
int32_t shim_tanh(int32_t x);
int32_t shim_sigmoid(int32_t x);
int32_t shim_erf(int32_t x);
int32_t shim_floor(int32_t x);
int32_t shim_ceil(int32_t x);
int32_t shim_round(int32_t x);
int32_t shim_logical_not(int32_t x);
int32_t shim_add(int32_t a, int32_t b, double number);
int32_t shim_subtract(int32_t a, int32_t b, double number);
int32_t shim_multiply(int32_t a, int32_t b, double number);
int32_t shim_divide(int32_t a, int32_t b, double number);
int32_t shim_floor_divide(int32_t a, int32_t b, double number);
int32_t shim_remainder(int32_t a, int32_t b, double number);
int32_t shim_power(int32_t a, int32_t b, double number);
int32_t shim_maximum(int32_t a, int32_t b, double number);
int32_t shim_minimum(int32_t a, int32_t b, double number);
int32_t shim_equal(int32_t a, int32_t b, double number);
int32_t shim_not_equal(int32_t a, int32_t b, double number);
int32_t shim_less(int32_t a, int32_t b, double number);
int32_t shim_less_equal(int32_t a, int32_t b, double number);
int32_t shim_greater(int32_t a, int32_t b, double number);
int32_t shim_greater_equal(int32_t a, int32_t b, double number);
int32_t shim_logical_and(int32_t a, int32_t b, double number);
int32_t shim_logical_or(int32_t a, int32_t b, double number);
int32_t shim_where(int32_t condition, int32_t a, double a_number, int32_t b, double b_number);
int32_t shim_sum(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_mean(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_prod(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_max(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_min(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_all(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_any(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_logsumexp(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_argmax(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_argmin(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims);
int32_t shim_softmax(int32_t x, const int32_t* axes, int32_t axis_count, bool precise);
int32_t shim_cumsum(int32_t x, int32_t axis, bool reverse, bool inclusive);
int32_t shim_sort(int32_t x, int32_t axis);
int32_t shim_argsort(int32_t x, int32_t axis);
int32_t shim_partition(int32_t x, int32_t kth, int32_t axis);
int32_t shim_argpartition(int32_t x, int32_t kth, int32_t axis);
int32_t shim_topk(int32_t x, int32_t k, int32_t axis);
int32_t shim_slice(
    int32_t x,
    const int32_t* start,
    const int32_t* stop,
    const int32_t* strides,
    int32_t ndim);
int32_t shim_slice_update(
    int32_t x,
    int32_t update,
    const int32_t* start,
    const int32_t* stop,
    const int32_t* strides,
    int32_t ndim);
int32_t shim_take(int32_t x, int32_t indices, int32_t axis);
int32_t shim_take_flat(int32_t x, int32_t indices);
int32_t shim_take_along_axis(int32_t x, int32_t indices, int32_t axis);
int32_t shim_put_along_axis(int32_t x, int32_t indices, int32_t values, int32_t axis);
int32_t shim_reshape(int32_t x, const int32_t* shape, int32_t ndim);
int32_t shim_broadcast_to(int32_t x, const int32_t* shape, int32_t ndim);
int32_t shim_transpose(int32_t x, const int32_t* axes, int32_t axis_count);
int32_t shim_expand_dims(int32_t x, const int32_t* axes, int32_t axis_count);
int32_t shim_squeeze(int32_t x, const int32_t* axes, int32_t axis_count);
int32_t shim_swapaxes(int32_t x, int32_t axis1, int32_t axis2);
int32_t shim_flatten(int32_t x, int32_t start_axis, int32_t end_axis);
int32_t shim_concatenate(const int32_t* arrays, int32_t count, int32_t axis);
int32_t shim_stack(const int32_t* arrays, int32_t count, int32_t axis);
int32_t shim_split(int32_t x, int32_t parts, int32_t axis, int32_t* out, int32_t capacity);
int32_t shim_split_at(
    int32_t x,
    const int32_t* at,
    int32_t at_count,
    int32_t axis,
    int32_t* out,
    int32_t capacity);
int32_t shim_tile(int32_t x, const int32_t* repeats, int32_t repeat_count);
int32_t shim_repeat(int32_t x, int32_t repeats, int32_t axis);
int32_t shim_pad(
    int32_t x,
    const int32_t* before,
    const int32_t* after,
    int32_t ndim,
    double value);
int32_t shim_contiguous(int32_t x);
int32_t shim_astype(int32_t x, int32_t type);
int32_t shim_view(int32_t x, int32_t type);
int32_t shim_matmul(int32_t a, int32_t b);
int32_t shim_addmm(int32_t c, int32_t a, int32_t b, float alpha, float beta);
int32_t shim_quantize(int32_t w, int32_t group_size, int32_t bits, const char* mode, int32_t* out);
int32_t shim_dequantize(
    int32_t w,
    int32_t scales,
    int32_t biases,
    int32_t group_size,
    int32_t bits,
    const char* mode,
    int32_t type);
int32_t shim_quantized_matmul(
    int32_t x,
    int32_t w,
    int32_t scales,
    int32_t biases,
    bool transpose,
    int32_t group_size,
    int32_t bits,
    const char* mode);
int32_t shim_rms_norm(int32_t x, int32_t weight, float eps);
int32_t shim_layer_norm(int32_t x, int32_t weight, int32_t bias, float eps);
int32_t shim_rope(
    int32_t x,
    int32_t dims,
    bool traditional,
    float base,
    float scale,
    int32_t offset,
    int32_t offsets,
    int32_t freqs);
int32_t shim_sdpa(
    int32_t queries,
    int32_t keys,
    int32_t values,
    float scale,
    bool causal,
    int32_t mask,
    int32_t sinks);
int32_t shim_pack_matrix(
    int32_t w,
    int32_t scales,
    int32_t biases,
    int32_t group_size,
    int32_t bits);
int32_t shim_pack_start(
    const char* path,
    const int32_t* shapes,
    const uint8_t* offsets,
    int32_t count);
int32_t shim_pack_take(int32_t job, int32_t index);
int32_t shim_pack_end(int32_t job);
int32_t shim_free_matrix(int32_t matrix);
int32_t shim_rope_table(
    const uint8_t* frequencies,
    int32_t pairs,
    float position_scale,
    float amplitude);
int32_t shim_free_rope_table(int32_t table);
int32_t shim_kv_pool(const int32_t* layers, int32_t layer_count);
int32_t shim_free_kv_pool(int32_t pool);
int32_t shim_kv_take(int32_t pool);
int32_t shim_kv_copy(int32_t pool, int32_t block);
int32_t shim_kv_give_back(int32_t pool, int32_t block);
int32_t shim_kv_block_bytes(int32_t pool, double* bytes);
int32_t shim_kv_layer_bytes(int32_t pool, int32_t layer, double* bytes);
int32_t shim_kv_read(
    int32_t pool,
    int32_t layer,
    const int32_t* blocks,
    int32_t count,
    uint8_t* out,
    double bytes);
int32_t shim_kv_write(
    int32_t pool,
    int32_t layer,
    const int32_t* blocks,
    int32_t count,
    const uint8_t* data,
    double bytes);
int32_t shim_packed_linear(int32_t x, int32_t matrix, int32_t bias);
int32_t shim_packed_rows(int32_t ids, int32_t matrix, int32_t first_id);
int32_t shim_rows_norm(
    int32_t x,
    int32_t weight,
    int32_t bias,
    float eps,
    int32_t heads,
    bool centered);
int32_t shim_rows_function(int32_t function, int32_t a, int32_t b, float scalar);
int32_t shim_rows_rope(int32_t x, int32_t table, int32_t heads, bool traditional);
int32_t shim_rows_attention(
    int32_t queries,
    int32_t keys,
    int32_t values,
    int32_t layer,
    int32_t heads,
    int32_t kv_heads,
    float scale,
    float softcap,
    int32_t window,
    int32_t sinks);
int32_t shim_rows_select(int32_t x);
int32_t shim_rows_input(int32_t rows, int32_t width);
int32_t shim_rows_sum(int32_t x, int32_t group);
int32_t shim_rows_gather(int32_t x, int32_t group, int32_t width);
int32_t shim_set_step(int32_t pool, const int32_t* data, int32_t count);
int32_t shim_record(int32_t input, int32_t output);
int32_t shim_plan_width(int32_t plan);
int32_t shim_replay(
    int32_t plan,
    int32_t pool,
    const int32_t* data,
    int32_t count,
    const float* rows,
    double row_floats,
    int32_t* best);
int32_t shim_replayed_rows(int32_t plan, float* out, double capacity);
int32_t shim_replayed(int32_t plan, int32_t row);
int32_t shim_profile(int32_t plan, double* out);
int32_t shim_free_plan(int32_t plan);
int32_t shim_sample(
    int32_t plan,
    int32_t logits,
    const double* draws,
    int32_t count,
    const double* adjustments,
    int32_t adjustment_count,
    double* out);
int32_t shim_group_listen(const char* ip, int32_t port);
int32_t shim_group_port(int32_t listener);
int32_t shim_group_prepare(
    int32_t listener,
    const char* group_id,
    int32_t rank,
    int32_t size,
    const uint8_t* names,
    int32_t names_bytes,
    const char* next_ip,
    int32_t next_port,
    int32_t timeout_ms);
int32_t shim_group_join(int32_t listener);
int32_t shim_group_joined(int32_t listener);
int32_t shim_group_cancel(int32_t listener);
int32_t shim_group_unlisten(int32_t listener);
int32_t shim_group_send(
    int32_t group,
    const uint8_t* header,
    int32_t header_bytes,
    const uint8_t* body,
    int32_t body_bytes);
int32_t shim_group_receive(int32_t group, int32_t ms);
int32_t shim_group_take(int32_t group, uint8_t* out, int32_t capacity);
int32_t shim_group_arrival(int32_t group);
int32_t shim_group_counters(int32_t group, double* out);
int32_t shim_group_leave(int32_t group);
int32_t shim_random_key(int32_t high, int32_t low);
int32_t shim_random_split(int32_t key, int32_t count);
int32_t shim_random_categorical(int32_t logits, int32_t axis, int32_t key);
int32_t shim_random_uniform(
    double low,
    double high,
    const int32_t* shape,
    int32_t ndim,
    int32_t type,
    int32_t key);
int32_t shim_random_normal(
    double mean,
    double deviation,
    const int32_t* shape,
    int32_t ndim,
    int32_t type,
    int32_t key);
int32_t shim_random_bernoulli(
    int32_t p,
    double number,
    const int32_t* shape,
    int32_t ndim,
    int32_t key);
int32_t shim_load_safetensors(const char* path);
int32_t shim_load_gguf(const char* path);
int32_t shim_save_safetensors(
    const char* path,
    const int32_t* arrays,
    int32_t count,
    const uint8_t* names,
    int32_t names_bytes,
    const uint8_t* metadata,
    int32_t metadata_bytes);
int32_t shim_distributed_available(const char* backend);
int32_t shim_distributed_init(const char* backend, const char* input, const char* output);
int32_t shim_distributed_failure();
int32_t shim_distributed_rank();
int32_t shim_distributed_size();
int32_t shim_distributed_leave();
int32_t shim_distributed_all_sum(int32_t x);
int32_t shim_pipe_gather(
    const char* input,
    const char* output,
    const uint8_t* data,
    int32_t byte_count,
    int32_t ranks,
    uint8_t* out);
int32_t shim_memory(double* out);
int32_t shim_set_memory_limit(double bytes, double* previous);
int32_t shim_set_cache_limit(double bytes, double* previous);
int32_t shim_set_wired_limit(double bytes, double* previous);
int32_t shim_clear_cache();
int32_t shim_reset_peak_memory();
int32_t shim_set_default_device(bool gpu, int32_t index);
int32_t shim_device_info();
int32_t shim_mlx_version();
int32_t shim_watch_parent(int32_t fd);
int32_t shim_yield();
}

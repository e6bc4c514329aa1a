/**
 * The C ABI, one row per function: the generated header, the dlopen symbols and the typed calls all
 * derive from this table, so a new function is one row here and one body in a `shim_*.cpp`.
 *
 * Every function returns an int32: a handle where it makes an array, a count where it counts, else
 * 0; a negative value is a failure, whose message `shim_last_message` tells: -2 when a group of ranks
 * is broken, else -1. Handle 0 is no array.
 *
 * @module
 */

/** How each kind of argument looks in C and how it crosses the border. */
export const KINDS = {
  array: { c: "int32_t", ffi: "i32" },
  /** A handle, or 0 for none. */
  option: { c: "int32_t", ffi: "i32" },
  i32: { c: "int32_t", ffi: "i32" },
  /** An element type, numbered as in `dtype.ts`. */
  dtype: { c: "int32_t", ffi: "i32" },
  bool: { c: "bool", ffi: "bool" },
  f32: { c: "float", ffi: "f32" },
  f64: { c: "double", ffi: "f64" },
  /** Lengths, axes or handles; the argument after it says how many. */
  ints: { c: "const int32_t*", ffi: "buffer" },
  doubles: { c: "const double*", ffi: "buffer" },
  floats: { c: "const float*", ffi: "buffer" },
  bytes: { c: "const uint8_t*", ffi: "buffer" },
  /** UTF-8 ending in a zero byte. */
  text: { c: "const char*", ffi: "buffer" },
  intsOut: { c: "int32_t*", ffi: "buffer" },
  floatsOut: { c: "float*", ffi: "buffer" },
  doublesOut: { c: "double*", ffi: "buffer" },
  bytesOut: { c: "uint8_t*", ffi: "buffer" },
} as const satisfies Record<string, { c: string; ffi: "i32" | "bool" | "f32" | "f64" | "buffer" }>;

/** The name of a kind of argument. */
export type Kind = keyof typeof KINDS;

const UNARY = ["array x"] as const;
/** Either side may be 0, which stands for `number` in the other side's type. */
const BINARY = ["option a", "option b", "f64 number"] as const;
/** An `axis_count` of -1 means all axes. */
const REDUCE = ["array x", "ints axes", "i32 axis_count", "bool keepdims"] as const;
const ALONG = ["array x", "i32 axis"] as const;
const BUFFER_OUT = ["bytesOut out", "i32 capacity"] as const;
const SHAPED = ["ints shape", "i32 ndim", "dtype type"] as const;
/** A boxed part of an array; the three lists have `ndim` entries each. */
const BOX = ["ints start", "ints stop", "ints strides", "i32 ndim"] as const;
const LIMIT = ["f64 bytes", "doublesOut previous"] as const;

/** One row per C function: `kind name` for each argument, in order. */
export const DECLARATIONS = {
  // Messages, handles and scopes.
  shim_last_message: BUFFER_OUT, // Returns its length in bytes, as shim_take_text does.
  shim_take_text: BUFFER_OUT, // What the last call left that answers with text.
  shim_take_handles: ["intsOut out", "i32 capacity"], // What the last load left.
  shim_scope_enter: [], // Returns the depth to leave.
  shim_scope_leave: ["i32 depth"], // Frees what was not kept; returns how many.
  shim_keep: ["array x"],
  shim_free: ["array x"],
  shim_live_arrays: [],

  // Looking at arrays.
  shim_describe: ["array x", "intsOut out", "i32 capacity"], // dtype, lengths; returns ndim.
  shim_eval: ["ints arrays", "i32 count"], // Blocks until the data exist.
  shim_async_eval: ["ints arrays", "i32 count"],
  shim_item: ["array x", "doublesOut value"],
  shim_read: ["array x", "dtype type", "bytesOut out", "f64 capacity"], // Row-major.

  // Making arrays.
  shim_zeros: SHAPED,
  shim_ones: SHAPED,
  shim_full: ["f64 value", ...SHAPED],
  shim_arange: ["f64 start", "f64 stop", "f64 step", "dtype type"],
  shim_scalar: ["f64 value", "dtype type"],
  shim_from_bytes: ["bytes data", "f64 byte_count", ...SHAPED], // Copies the data.

  // Arithmetic, element by element.
  shim_negative: UNARY,
  shim_abs: UNARY,
  shim_square: UNARY,
  shim_sqrt: UNARY,
  shim_rsqrt: UNARY,
  shim_reciprocal: UNARY,
  shim_exp: UNARY,
  shim_log: UNARY,
  shim_log1p: UNARY,
  shim_sin: UNARY,
  shim_cos: UNARY,
  shim_tanh: UNARY,
  shim_sigmoid: UNARY,
  shim_erf: UNARY,
  shim_floor: UNARY,
  shim_ceil: UNARY,
  shim_round: UNARY,
  shim_logical_not: UNARY,
  shim_add: BINARY,
  shim_subtract: BINARY,
  shim_multiply: BINARY,
  shim_divide: BINARY,
  shim_floor_divide: BINARY,
  shim_remainder: BINARY,
  shim_power: BINARY,
  shim_maximum: BINARY,
  shim_minimum: BINARY,
  shim_equal: BINARY,
  shim_not_equal: BINARY,
  shim_less: BINARY,
  shim_less_equal: BINARY,
  shim_greater: BINARY,
  shim_greater_equal: BINARY,
  shim_logical_and: BINARY,
  shim_logical_or: BINARY,
  shim_where: ["array condition", "option a", "f64 a_number", "option b", "f64 b_number"],

  // Reductions and order.
  shim_sum: REDUCE,
  shim_mean: REDUCE,
  shim_prod: REDUCE,
  shim_max: REDUCE,
  shim_min: REDUCE,
  shim_all: REDUCE,
  shim_any: REDUCE,
  shim_logsumexp: REDUCE,
  shim_argmax: REDUCE, // One axis or all, as shim_argmin.
  shim_argmin: REDUCE,
  shim_softmax: ["array x", "ints axes", "i32 axis_count", "bool precise"],
  shim_cumsum: ["array x", "i32 axis", "bool reverse", "bool inclusive"],
  shim_sort: ALONG,
  shim_argsort: ALONG,
  shim_partition: ["array x", "i32 kth", "i32 axis"],
  shim_argpartition: ["array x", "i32 kth", "i32 axis"],
  shim_topk: ["array x", "i32 k", "i32 axis"],

  // Parts of arrays.
  shim_slice: ["array x", ...BOX],
  shim_slice_update: ["array x", "array update", ...BOX],
  shim_take: ["array x", "array indices", "i32 axis"],
  shim_take_flat: ["array x", "array indices"],
  shim_take_along_axis: ["array x", "array indices", "i32 axis"],
  shim_put_along_axis: ["array x", "array indices", "array values", "i32 axis"],

  // Shapes and types.
  shim_reshape: ["array x", "ints shape", "i32 ndim"],
  shim_broadcast_to: ["array x", "ints shape", "i32 ndim"],
  shim_transpose: ["array x", "ints axes", "i32 axis_count"], // -1 reverses all axes.
  shim_expand_dims: ["array x", "ints axes", "i32 axis_count"],
  shim_squeeze: ["array x", "ints axes", "i32 axis_count"], // -1 drops every length of 1.
  shim_swapaxes: ["array x", "i32 axis1", "i32 axis2"],
  shim_flatten: ["array x", "i32 start_axis", "i32 end_axis"],
  shim_concatenate: ["ints arrays", "i32 count", "i32 axis"],
  shim_stack: ["ints arrays", "i32 count", "i32 axis"],
  shim_split: ["array x", "i32 parts", "i32 axis", "intsOut out", "i32 capacity"],
  shim_split_at: ["array x", "ints at", "i32 at_count", "i32 axis", "intsOut out", "i32 capacity"],
  shim_tile: ["array x", "ints repeats", "i32 repeat_count"],
  shim_repeat: ["array x", "i32 repeats", "i32 axis"],
  shim_pad: ["array x", "ints before", "ints after", "i32 ndim", "f64 value"],
  shim_contiguous: UNARY,
  shim_astype: ["array x", "dtype type"],
  shim_view: ["array x", "dtype type"],

  // Matrices.
  shim_matmul: ["array a", "array b"],
  shim_addmm: ["array c", "array a", "array b", "f32 alpha", "f32 beta"],
  shim_quantize: ["array w", "i32 group_size", "i32 bits", "text mode", "intsOut out"],
  shim_dequantize: [
    "array w",
    "array scales",
    "option biases",
    "i32 group_size",
    "i32 bits",
    "text mode",
    "dtype type", // -1: the type of the scales.
  ],
  shim_quantized_matmul: [
    "array x",
    "array w",
    "array scales",
    "option biases",
    "bool transpose",
    "i32 group_size",
    "i32 bits",
    "text mode",
  ],

  // Fused.
  shim_rms_norm: ["array x", "option weight", "f32 eps"],
  shim_layer_norm: ["array x", "option weight", "option bias", "f32 eps"],
  shim_rope: [
    "array x",
    "i32 dims",
    "bool traditional",
    "f32 base", // Not used where freqs are given.
    "f32 scale",
    "i32 offset",
    "option offsets", // One per row, in place of offset.
    "option freqs",
  ],
  shim_sdpa: [
    "array queries",
    "array keys",
    "array values",
    "f32 scale",
    "bool causal",
    "option mask",
    "option sinks",
  ],

  // The CPU engine: packed weights and paged KV caches, by numbers of their own.
  shim_pack_matrix: ["array w", "option scales", "option biases", "i32 group_size", "i32 bits"],
  shim_pack_start: [
    "text path",
    // For each: type (as in `gguf_packer.ts`), outputs, inputs and heads in the file, then first
    // row, rows, first column and columns that are taken.
    "ints shapes",
    "bytes offsets", // In the file, as f64.
    "i32 count",
  ],
  shim_pack_take: ["i32 job", "i32 index"], // Waits; returns the number of a matrix.
  shim_pack_end: ["i32 job"], // What is under way is finished, nothing else begun.
  shim_free_matrix: ["i32 matrix"],
  shim_rope_table: ["bytes frequencies", "i32 pairs", "f32 position_scale", "f32 amplitude"],
  shim_free_rope_table: ["i32 table"],
  shim_kv_pool: ["ints layers", "i32 layer_count"], // KV heads, key and value widths, type of each.
  shim_free_kv_pool: ["i32 pool"],
  shim_kv_take: ["i32 pool"], // Returns the number of a block.
  shim_kv_copy: ["i32 pool", "i32 block"], // Returns the number of a block that holds the same.
  shim_kv_give_back: ["i32 pool", "i32 block"],
  shim_kv_block_bytes: ["i32 pool", "doublesOut bytes"],
  shim_kv_layer_bytes: ["i32 pool", "i32 layer", "doublesOut bytes"], // Of one block.
  shim_kv_read: ["i32 pool", "i32 layer", "ints blocks", "i32 count", "bytesOut out", "f64 bytes"],
  shim_kv_write: ["i32 pool", "i32 layer", "ints blocks", "i32 count", "bytes data", "f64 bytes"],

  // The CPU engine: operations on float32 rows [..., width].
  shim_packed_linear: ["array x", "i32 matrix", "option bias"],
  shim_packed_rows: ["array ids", "i32 matrix", "i32 first_id"], // -1: the matrix has all ids.
  shim_rows_norm: [
    "array x",
    "option weight",
    "option bias",
    "f32 eps",
    "i32 heads",
    "bool centered",
  ],
  shim_rows_function: ["i32 function", "array a", "option b", "f32 scalar"],
  shim_rows_rope: ["array x", "i32 table", "i32 heads", "bool traditional"],
  shim_rows_attention: [
    "array queries",
    "array keys",
    "array values",
    "i32 layer",
    "i32 heads",
    "i32 kv_heads",
    "f32 scale",
    "f32 softcap",
    "i32 window",
    "option sinks",
  ],
  shim_rows_select: ["array x"],
  shim_rows_input: ["i32 rows", "i32 width"], // Stands for rows that a plan is given.
  shim_rows_sum: ["array x", "i32 group"],
  shim_rows_gather: ["array x", "i32 group", "i32 width"],
  shim_set_step: ["i32 pool", "ints data", "i32 count"], // For what is computed without a plan.

  // The CPU engine: a step recorded once, and replayed.
  shim_record: ["array input", "array output"], // Returns the number of a plan.
  shim_plan_width: ["i32 plan"], // Of its output.
  shim_replay: [
    "i32 plan",
    "i32 pool",
    "ints data",
    "i32 count",
    "floats rows", // Of a plan that was recorded with rows, else null.
    "f64 row_floats",
    "intsOut best", // May be null.
  ],
  shim_replayed_rows: ["i32 plan", "floatsOut out", "f64 capacity"],
  shim_replayed: ["i32 plan", "i32 row"], // The output of a selected row of the last replay.
  shim_profile: ["i32 plan", "doublesOut out"], // Time by kind of operation, in milliseconds.
  shim_free_plan: ["i32 plan"],

  // Tokens from logits: of a plan's last step, or float32 [rows, width].
  shim_sample: [
    "i32 plan", // 0: the logits are given.
    "option logits",
    "doubles draws", // As `sample.ts` lays them out.
    "i32 count",
    "doubles adjustments", // Of all draws, one after the other.
    "i32 adjustment_count",
    "doublesOut out",
  ],

  // Groups of ranks, by numbers of their own. A failure of the group itself returns -2.
  shim_group_listen: ["text ip", "i32 port"], // Returns the number of a listener.
  shim_group_port: ["i32 listener"],
  shim_group_prepare: [
    "i32 listener",
    "text group_id",
    "i32 rank",
    "i32 size",
    "bytes names", // As strings travel.
    "i32 names_bytes",
    "text next_ip",
    "i32 next_port",
    "i32 timeout_ms",
  ],
  shim_group_join: ["i32 listener"], // Waits; how it went shim_group_joined tells.
  shim_group_joined: ["i32 listener"], // Returns the number of a group.
  shim_group_cancel: ["i32 listener"], // Ends a join.
  shim_group_unlisten: ["i32 listener"],
  shim_group_send: [
    "i32 group",
    "bytes header",
    "i32 header_bytes",
    "bytes body",
    "i32 body_bytes",
  ],
  shim_group_receive: ["i32 group", "i32 ms"], // Returns 0 for none, else 1 more than its bytes.
  shim_group_take: ["i32 group", ...BUFFER_OUT], // What was received last.
  shim_group_arrival: ["i32 group"], // Waits.
  shim_group_counters: ["i32 group", "doublesOut out"],
  shim_group_leave: ["i32 group"],

  // Randomness, always from an explicit key.
  shim_random_key: ["i32 high", "i32 low"],
  shim_random_split: ["array key", "i32 count"],
  shim_random_categorical: ["array logits", "i32 axis", "array key"],
  shim_random_uniform: ["f64 low", "f64 high", ...SHAPED, "array key"],
  shim_random_normal: ["f64 mean", "f64 deviation", ...SHAPED, "array key"],
  shim_random_bernoulli: ["option p", "f64 number", "ints shape", "i32 ndim", "array key"],

  // Files. Strings travel as one blob: for each, its byte count as u32 LE, then its UTF-8.
  shim_load_safetensors: ["text path"], // Returns the array count; names, then metadata pairs.
  shim_load_gguf: ["text path"],
  shim_save_safetensors: [
    "text path",
    "ints arrays",
    "i32 count",
    "bytes names",
    "i32 names_bytes",
    "bytes metadata",
    "i32 metadata_bytes",
  ],

  // MLX distributed. The group is the process's own, and MLX's threads wait where it must.
  shim_distributed_available: ["text backend"], // 1 if this MLX has it.
  shim_distributed_init: ["text backend", "text input", "text output"], // Pipes, or "" for none.
  shim_distributed_failure: [], // Leaves text: why the last one that runs aside failed.
  shim_distributed_rank: [],
  shim_distributed_size: [],
  shim_distributed_leave: [],
  shim_distributed_all_sum: UNARY,
  shim_pipe_gather: [
    "text input",
    "text output",
    "bytes data",
    "i32 byte_count",
    "i32 ranks",
    "bytesOut out",
  ],

  // Memory, devices and this process.
  shim_memory: ["doublesOut out"], // Active, peak, cached, limit; in bytes.
  shim_set_memory_limit: LIMIT,
  shim_set_cache_limit: LIMIT,
  shim_set_wired_limit: LIMIT,
  shim_clear_cache: [],
  shim_reset_peak_memory: [],
  shim_set_default_device: ["bool gpu", "i32 index"],
  shim_device_info: [], // Leaves text: key, kind ("text" or "number"), value, and so on.
  shim_mlx_version: [], // Leaves text.
  shim_watch_parent: ["i32 fd"],
  shim_yield: [], // Nothing, on a thread of its own.
} as const satisfies Record<string, readonly `${Kind} ${string}`[]>;

/** Functions that run on a thread of their own and give a promise. They may touch no array. */
const ASYNC = [
  "shim_yield",
  "shim_group_join",
  "shim_group_arrival",
  "shim_distributed_init",
  "shim_pipe_gather",
] as const satisfies readonly (keyof typeof DECLARATIONS)[];

/** The name of a C function of the shim. */
export type NativeName = keyof typeof DECLARATIONS;

/** What each kind of FFI value is in TypeScript. */
interface FfiTypes {
  i32: number;
  f32: number;
  f64: number;
  bool: boolean;
  buffer: BufferSource | null;
}

type ArgumentOf<Row> = Row extends `${infer K extends Kind} ${string}`
  ? FfiTypes[(typeof KINDS)[K]["ffi"]]
  : never;

type ArgumentsOf<Rows extends readonly string[]> = {
  -readonly [I in keyof Rows]: ArgumentOf<Rows[I]>;
};

/** The typed calls: each C function by its name, returning its status. */
export type NativeCalls = {
  readonly [F in NativeName]: (
    ...args: ArgumentsOf<(typeof DECLARATIONS)[F]>
  ) => F extends typeof ASYNC[number] ? Promise<number> : number;
};

/** Splits `kind name` into its two words. */
export function argumentOf(entry: string): { kind: Kind; name: string } {
  const [kind, name] = entry.split(" ") as [Kind, string];
  return { kind, name };
}

/** The table as {@linkcode Deno.dlopen} wants it. */
export function symbolTable(): Record<NativeName, Deno.ForeignFunction> {
  const rows = Object.entries(DECLARATIONS).map(([name, entries]) => {
    const parameters = entries.map((entry) => KINDS[argumentOf(entry).kind].ffi);
    const nonblocking = (ASYNC as readonly string[]).includes(name);
    return [name, { parameters, result: "i32", nonblocking } as const];
  });
  return Object.fromEntries(rows) as Record<NativeName, Deno.ForeignFunction>;
}

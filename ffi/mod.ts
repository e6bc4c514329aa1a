/**
 * `deno-mlx-ffi`: MLX for Deno, through a C shim compiled on this machine. The room imports nothing
 * but Deno and `node:` built-ins, and works alone; importing it does not open the library, the
 * first call does. Read `declarations.ts` first (the C ABI), then `tensor.ts` and `scope.ts`.
 *
 * @module
 */
export * from "./arithmetic.ts";
export * from "./create.ts";
export * from "./device.ts";
export * from "./distributed.ts";
export { type Dtype, DTYPES, type TypedArray } from "./dtype.ts";
export { GroupError, NativeError, SetupError } from "./errors.ts";
export * from "./fast.ts";
export * from "./gguf_packer.ts";
export * from "./group.ts";
export * from "./indexing.ts";
export type { Axes } from "./ints.ts";
export * from "./io.ts";
export * from "./kv_pool.ts";
export { findLibrary } from "./library.ts";
export * from "./linear.ts";
export * from "./memory.ts";
export * from "./packed.ts";
export * from "./plan.ts";
export * as random from "./random.ts";
export * from "./reduce.ts";
export * from "./rows.ts";
export * from "./sample.ts";
export { Scope } from "./scope.ts";
export { ensureSetup, type Setup, type SetupOptions } from "./setup.ts";
export * from "./shapes.ts";
export { asyncEval, evalAll, Tensor } from "./tensor.ts";

/** MLX's memory: counters and limits, in bytes. */
import { check, native } from "./bind.ts";
import type { NativeCalls } from "./declarations.ts";

/** What MLX's allocator counts. */
export interface MemoryCounters {
  /** In use by arrays. */
  readonly activeBytes: number;
  /** The most in use since the start or the last reset. */
  readonly peakBytes: number;
  /** Freed by arrays and held for reuse. */
  readonly cacheBytes: number;
  /** Above this, allocation waits for running work, and fails if that does not help. */
  readonly limitBytes: number;
}

/** The counters now. */
export function memoryCounters(): MemoryCounters {
  const out = new Float64Array(4);
  check("shim_memory", native().shim_memory(out));
  const [activeBytes = 0, peakBytes = 0, cacheBytes = 0, limitBytes = 0] = out;
  return { activeBytes, peakBytes, cacheBytes, limitBytes };
}

/** Sets the limit of active memory; returns the previous one. */
export function setMemoryLimit(bytes: number): number {
  return setLimit("shim_set_memory_limit", bytes);
}

/** Sets how much freed memory is held for reuse; returns the previous limit. */
export function setCacheLimit(bytes: number): number {
  return setLimit("shim_set_cache_limit", bytes);
}

/** Sets how much memory stays resident on a GPU (Metal); returns the previous limit. */
export function setWiredLimit(bytes: number): number {
  return setLimit("shim_set_wired_limit", bytes);
}

type LimitName = Extract<keyof NativeCalls, `shim_set_${string}_limit`>;

function setLimit(name: LimitName, bytes: number): number {
  const previous = new Float64Array(1);
  check(name, native()[name](bytes, previous));
  return previous[0] ?? 0;
}

/** Gives freed memory that is held for reuse back to the system. */
export function clearCache(): void {
  check("shim_clear_cache", native().shim_clear_cache());
}

/** Lets the peak start again from what is active now. */
export function resetPeakMemory(): void {
  check("shim_reset_peak_memory", native().shim_reset_peak_memory());
}

/** How many native arrays have a handle, for leak tests. */
export function liveArrays(): number {
  return native().shim_live_arrays();
}

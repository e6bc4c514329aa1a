import { engineLimits } from "../core/engine_limits.ts";
import { AppError } from "../core/errors.ts";
import { asksForTraces } from "../core/trace.ts";
import { MIB } from "../core/units.ts";
import type { Io } from "./io.ts";

/** A week: longer than any load, and within what a timer can hold. */
const LOAD_TIMEOUT_SECONDS_MAX = 604_800;

/** A pebibyte: more than any machine has, and exact in bytes. */
const MEMORY_MIB_MAX = 2 ** 30;

/** What the variables say that only nodes read; a variable that is empty says nothing. */
export interface NodeEnvironment {
  /** Until a model that does not load is ended; 0: never. */
  readonly loadTimeoutMs: number | undefined;
  /** Memory that this machine is said to have. */
  readonly memoryBytes: number | undefined;
  /** Whether the ranks of a group over RDMA find each other through the cluster. */
  readonly hasSideChannels: boolean;
}

/** Reads the variables of a node. @throws {AppError} `usage` with the one that cannot be used. */
export function nodeEnvironment(env: Io["env"]): NodeEnvironment {
  // Read by its runners; what they could not use is said before there are any.
  engineLimits((name) => env[name]);
  requireTracing(env);
  const hasSideChannels = isSwitchedOn(
    env,
    "EXO_JACCL_SIDE_CHANNEL",
    "form groups over RDMA through the cluster",
  );
  return { loadTimeoutMs: loadTimeoutMs(env), memoryBytes: memoryBytes(env), hasSideChannels };
}

/** `EXO_MODEL_LOAD_TIMEOUT`, in seconds. */
function loadTimeoutMs({ EXO_MODEL_LOAD_TIMEOUT: seconds }: Io["env"]): number | undefined {
  if (seconds === undefined || seconds === "") return undefined;
  const value = Number(seconds);
  if (Number.isFinite(value) && value >= 0 && value <= LOAD_TIMEOUT_SECONDS_MAX) {
    return value * 1000;
  }
  const needed = `seconds from 0 (no limit) to ${LOAD_TIMEOUT_SECONDS_MAX} needed`;
  throw new AppError("usage", `Cannot use EXO_MODEL_LOAD_TIMEOUT="${seconds}": ${needed}`, {
    hint: "unset it for a limit by the size of the model",
  });
}

/** `EXO_TRACING_ENABLED`, which runners read: here is somebody who hears of a slip. */
function requireTracing({ EXO_TRACING_ENABLED: value }: Io["env"]): void {
  if (asksForTraces(value) !== undefined) return;
  const message = `Cannot use EXO_TRACING_ENABLED="${value}": true or false needed`;
  throw new AppError("usage", message, {
    hint: "set EXO_TRACING_ENABLED=true for a trace of each task, or unset it for none",
  });
}

/**
 * `EXO_ENABLE_IMAGE_MODELS`: whether models that make pictures are listed.
 * @throws {AppError} `usage` for what says neither yes nor no.
 */
export function showsImageModels(env: Io["env"]): boolean {
  return isSwitchedOn(env, "EXO_ENABLE_IMAGE_MODELS", "list models that make pictures");
}

/**
 * `ENABLE_DISAGGREGATION`: whether instances may be linked, to prefill for each other.
 * @throws {AppError} `usage` for what says neither yes nor no.
 */
export function isDisaggregated(env: Io["env"]): boolean {
  return isSwitchedOn(env, "ENABLE_DISAGGREGATION", "link instances");
}

function isSwitchedOn(env: Io["env"], name: string, effect: string): boolean {
  const value = env[name];
  if (value === undefined || ["", "false", "0"].includes(value)) return false;
  if (value === "true" || value === "1") return true;
  const message = `Cannot use ${name}="${value}": true or false needed`;
  throw new AppError("usage", message, { hint: `set ${name}=true to ${effect}, or unset it` });
}

/** `OVERRIDE_MEMORY_MB`, in whole MiB. */
function memoryBytes({ OVERRIDE_MEMORY_MB: mebibytes }: Io["env"]): number | undefined {
  if (mebibytes === undefined || mebibytes === "") return undefined;
  const value = Number(mebibytes);
  if (Number.isInteger(value) && value >= 1 && value <= MEMORY_MIB_MAX) return value * MIB;
  const needed = `a whole number of MiB from 1 to ${MEMORY_MIB_MAX} needed`;
  throw new AppError("usage", `Cannot use OVERRIDE_MEMORY_MB="${mebibytes}": ${needed}`, {
    hint: "unset it for the memory that this machine has",
  });
}

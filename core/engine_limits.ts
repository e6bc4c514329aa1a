import { AppError } from "./errors.ts";
import { REMOTE_PREFILL_MODES, type RemotePrefillMode } from "./prefill_choice.ts";

/** What the environment says of a node's engines; an instance's own config goes before it. */
export interface EngineLimits {
  /** Most bytes of keys and values of an engine, those of the prefix cache included. */
  readonly kvCacheBytes: number | undefined;
  /** Most bytes of them that are kept for requests to come; 0: none are. */
  readonly prefixCacheBytes: number | undefined;
  /** Generations that an engine computes at once. */
  readonly runningMax: number | undefined;
  /** When a prompt is read by an instance that is linked for that; absent: when it is sooner. */
  readonly remotePrefill: RemotePrefillMode | undefined;
}

/** A pebibyte: more than any machine has, and exact in a number. */
const BYTES_MAX = 2 ** 50;

const RUNNING_MAX = 1_024;

/**
 * Reads `EXO_KV_CACHE_BYTES`, `EXO_PREFIX_CACHE_BYTES`, `EXO_MAX_CONCURRENT_REQUESTS` and
 * `EXO_REMOTE_PREFILL`; a variable that is empty says nothing.
 * @throws {AppError} `usage` with the one that cannot be used.
 */
export function engineLimits(env: (name: string) => string | undefined): EngineLimits {
  return {
    kvCacheBytes: whole(env, "EXO_KV_CACHE_BYTES", { min: 1, max: BYTES_MAX, what: "bytes" }),
    prefixCacheBytes: whole(env, "EXO_PREFIX_CACHE_BYTES", {
      ...{ min: 0, max: BYTES_MAX, what: "bytes" },
    }),
    runningMax: whole(env, "EXO_MAX_CONCURRENT_REQUESTS", {
      ...{ min: 1, max: RUNNING_MAX, what: "requests" },
    }),
    remotePrefill: remotePrefill(env("EXO_REMOTE_PREFILL")?.trim()),
  };
}

function remotePrefill(text: string | undefined): RemotePrefillMode | undefined {
  if (text === undefined || text === "") return undefined;
  const mode = REMOTE_PREFILL_MODES.find((one) => one === text);
  if (mode) return mode;
  const needed = `${REMOTE_PREFILL_MODES.join(", ")} needed`;
  throw new AppError("usage", `Cannot use EXO_REMOTE_PREFILL="${text}": ${needed}`, {
    hint: "set it to one of them, or unset it: unset EXO_REMOTE_PREFILL",
  });
}

function whole(
  env: (name: string) => string | undefined,
  name: string,
  { min, max, what }: { min: number; max: number; what: string },
): number | undefined {
  const text = env(name)?.trim();
  if (text === undefined || text === "") return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  const needed = `a whole number of ${what} from ${min} to ${max} needed`;
  throw new AppError("usage", `Cannot use ${name}="${text}": ${needed}`, {
    hint: `set it to such a number, or unset it: unset ${name}`,
  });
}

import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { JOIN_TIMEOUT_MS } from "../core/group.ts";

/**
 * How a fake engine behaves, from the file that `EXO_ENGINE_SCRIPT` names. Faults name the stage
 * in which they strike.
 */
export const FakeScript = z.object({
  /** The tokens of every answer; absent: the words of the last message, in order. */
  tokens: z.array(z.string()).optional(),
  contextTokens: z.number().int().min(1).default(4_096),
  queueMax: z.number().int().min(1).default(8),
  /** The rank on which the faults strike. */
  rank: z.number().int().min(0).default(0),
  /** How long a rank waits for the others to form a group. */
  joinMs: z.number().min(1).default(JOIN_TIMEOUT_MS),
  /** Ends the process with code 1 in this stage. */
  exitIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Throws in this stage: `request` hits one generation, the others end the process. */
  failIn: z.enum(["load", "warmup", "request"]).optional(),
  /** Holds the thread in this stage for ever, as hanging native code would. */
  hangIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Writes bytes that are no frames on the channel of reports in this stage. */
  garbageIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Takes memory in this stage until there is none: the system ends the process. */
  exhaustIn: z.enum(["load", "warmup", "prefill", "decode"]).optional(),
  /** Takes no step before it has been given so many requests. */
  gatherRequests: z.number().int().min(1).default(1),
  /** Every token is the time at which it was made, in milliseconds since 1970, and a space. */
  isDated: z.boolean().default(false),
  /** Decodes for ever, never finishing. */
  endless: z.boolean().default(false),
  /** Blocks the thread for this long in every decode step. */
  stepMs: z.number().min(0).default(0),
});
export type FakeScript = z.infer<typeof FakeScript>;

/** Puts bytes on the channel of reports as they are. */
export type Write = (bytes: Uint8Array) => void;

/** Where in its life an engine is struck. */
export type Stage = "load" | "warmup" | "prefill" | "decode";

/** Does what the script asks for in this stage of this rank. */
export function strike(script: FakeScript, stage: Stage, write: Write, rank = 0): void {
  if (rank !== script.rank) return;
  if (script.exitIn === stage) Deno.exit(1);
  if (script.hangIn === stage) block(Infinity);
  if (script.garbageIn === stage) write(GARBAGE);
  if (script.exhaustIn === stage) exhaust();
  if (script.failIn === stage) {
    throw new AppError("load_failed", `The fake engine was told to fail in ${stage}`);
  }
}

/** Lengths that no frame has, and text that is no JSON. */
const GARBAGE = new TextEncoder().encode("\xff\xff\xff\xffgarbage, not a frame".repeat(8));

/** Fills the heap, which ends the process with V8's own last words. */
function exhaust(): never {
  const held: number[][] = [];
  while (true) held.push(new Array(1_000_000).fill(held.length));
}

/** Holds the thread as native code would. */
export function block(milliseconds: number): void {
  if (milliseconds <= 0) return;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

import { z } from "zod";
import { AppError, ErrorInfo } from "../../core/errors.ts";
import { type RowDrawn, TOP_LOGPROBS_MAX } from "../../ffi/mod.ts";
import type { TokenDraw } from "../decoder.ts";

/** What ranks must have in common to understand each other's frames. */
const FRAME_VERSION = 1;

/** Most operations on caches that one frame tells of. */
export const OPS_MAX = 4_096;

/** Most sequences of a step, and most blocks that one begins with. */
const INPUTS_MAX = 4_096;
const SHARES_MAX = 1 << 20;

const Count = z.number().int().min(0);

/** A number as JSON has none for all of them. */
const AnyNumber = z.union([
  z.number(),
  z.enum(["NaN", "Infinity", "-Infinity"]).transform(Number),
]);

/** What was done to caches since the step before, in order; numbers are given by the first rank. */
export const CacheOperation = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("make"),
    cache: Count,
    /** Shares by their numbers; null where the window has left a block behind. */
    prefix: z.object({
      shares: z.array(Count.nullable()).max(SHARES_MAX),
      positions: Count,
    }).optional(),
  }),
  z.object({ type: z.literal("free"), cache: Count }),
  z.object({ type: z.literal("share"), share: Count, cache: Count, index: Count }),
  z.object({ type: z.literal("giveBack"), share: Count }),
]);
export type CacheOperation = z.infer<typeof CacheOperation>;

const Draw = z.object({
  /** 64 bits, more than JSON's numbers have. */
  seed: z.string().regex(/^\d{1,20}$/).transform(BigInt),
  index: Count,
  temperature: z.number(),
  topP: z.number(),
  topK: z.number(),
  minP: z.number(),
  repetitionPenalty: z.number(),
  adjustments: z.array(AnyNumber).transform((numbers) => Float64Array.from(numbers)),
  topLogprobs: z.number().int().min(0).max(TOP_LOGPROBS_MAX).optional(),
}).transform(({ topLogprobs, ...draw }): TokenDraw => {
  return { ...draw, ...(topLogprobs === undefined ? {} : { topLogprobs }) };
});

/** Tokens of one sequence in a step. */
const FrameInput = z.object({
  cache: Count,
  /** Positions that its cache has on every rank before this step. */
  offset: Count,
  count: Count,
  logitsCount: Count,
  draw: Draw.optional(),
  /** Only where each rank begins with them: of a pipeline, they stay on the first one. */
  ids: z.array(Count).optional(),
});
export type FrameInput = z.infer<typeof FrameInput>;

/** Why a step could not be computed; `isLost`: for what an earlier one has lost. */
const Failure = z.object({ error: ErrorInfo, isLost: z.boolean() });
export type Failure = z.infer<typeof Failure>;

const Drawn = z.object({
  id: z.number().int().min(-1),
  logprob: AnyNumber.optional(),
  top: z.array(z.object({ id: Count, logprob: AnyNumber })).max(TOP_LOGPROBS_MAX).optional(),
}).transform(({ id, logprob, top }): RowDrawn => {
  return { id, ...(logprob === undefined ? {} : { logprob }), ...(top ? { top } : {}) };
});

const Header = z.discriminatedUnion("type", [
  /** Operations alone, or with a step; the body of one in a pipeline has its rows. */
  z.object({
    type: z.literal("step"),
    version: z.literal(FRAME_VERSION),
    serial: Count,
    operations: z.array(CacheOperation).max(OPS_MAX),
    inputs: z.array(FrameInput).max(INPUTS_MAX),
    /** Whether an outcome is to come back. */
    returns: z.boolean(),
    /** Blocks that each of the ranks so far could hold; null: as many as anyone wants. */
    blocksMax: Count.nullable(),
    failure: Failure.optional(),
  }),
  /** What came of it, from the last rank to the first; the body has the logits that were wanted. */
  z.object({
    type: z.literal("outcome"),
    version: z.literal(FRAME_VERSION),
    serial: Count,
    /** By sequence; null for those that wanted none. */
    drawn: z.array(Drawn.nullable()).max(INPUTS_MAX),
    blocksMax: Count.nullable(),
    failure: Failure.optional(),
  }),
]);
export type Header = z.infer<typeof Header>;

/** Operations on caches, with the step that follows them if there is one. */
export type StepHeader = Omit<Extract<Header, { type: "step" }>, "type" | "version">;

/** What came of a step. */
export type OutcomeHeader = Omit<Extract<Header, { type: "outcome" }>, "type" | "version">;

/** A frame as it was read. */
export interface Frame {
  readonly header: Header;
  readonly rows: Float32Array<ArrayBuffer>;
}

const LENGTH_BYTES = 4;

/** The beginning of a frame; what comes behind it lies at a multiple of 4. */
export function encodeHeader(
  header: ({ type: "step" } & StepHeader) | ({ type: "outcome" } & OutcomeHeader),
): Uint8Array<ArrayBuffer> {
  const json = JSON.stringify({ version: FRAME_VERSION, ...header }, plain);
  const text = new TextEncoder().encode(json);
  const length = Math.ceil(text.length / LENGTH_BYTES) * LENGTH_BYTES;
  const bytes = new Uint8Array(LENGTH_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(text, LENGTH_BYTES);
  return bytes;
}

/** What JSON has no word for, as it is read again. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(BigInt.asUintN(64, value));
  if (value instanceof Float64Array) return [...value];
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

/** Numbers as the body of a frame. */
export function bodyOf(rows: Float32Array<ArrayBuffer> | undefined): Uint8Array<ArrayBuffer> {
  if (!rows) return new Uint8Array(0);
  return new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
}

/** @throws {AppError} `group_broken` for what is no frame, or one of another version of exo. */
export function decodeFrame(bytes: Uint8Array<ArrayBuffer>, from: string): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < LENGTH_BYTES ? Infinity : view.getUint32(0, true);
  if (LENGTH_BYTES + length > bytes.length) throw notUnderstood(from, `${bytes.length} bytes`);
  const read = Header.safeParse(parse(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length)));
  if (!read.success) {
    const [issue] = read.error.issues;
    throw notUnderstood(from, `a header with ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const body = bytes.subarray(LENGTH_BYTES + length);
  if (body.length % 4 !== 0) throw notUnderstood(from, `a body of ${body.length} bytes`);
  // Where the frame does not begin at a multiple of 4, no view can: then it is copied.
  const at = body.byteOffset % 4 === 0 ? body : body.slice();
  return { header: read.data, rows: new Float32Array(at.buffer, at.byteOffset, at.length / 4) };
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** The end of a group whose ranks do not say what the others can make sense of. */
export function notUnderstood(from: string, found: string): AppError {
  const message = `Cannot follow the ranks of the instance: rank before this one, on "${from}", ` +
    `sent ${found}, a frame of version ${FRAME_VERSION} needed`;
  return new AppError("group_broken", message, {
    hint: "run the same version of exo on all nodes",
  });
}

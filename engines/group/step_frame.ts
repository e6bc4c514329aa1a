import { z } from "zod";
import { AppError, ErrorInfo } from "../../core/errors.ts";
import { type RowDrawn, TOP_LOGPROBS_MAX } from "../../ffi/mod.ts";
import type { TokenDraw } from "../decoder.ts";
import {
  type CacheOperation,
  type KvMove,
  NONE,
  OPS_MAX,
  readMove,
  readOperation,
  writeMove,
  writeOperation,
} from "./cache_operation.ts";
import { Malformed, NumberReader } from "./number_reader.ts";

/** What ranks must have in common to understand each other's frames. */
const FRAME_VERSION = 3;

/** Most characters of what a rank calls its model's files, or the way it keeps keys and values. */
const NAME_CHARS_MAX = 256;

/** Most sequences of a step. */
const INPUTS_MAX = 4_096;

/** Tokens of one sequence in a step. */
export interface FrameInput {
  readonly cache: number;
  /** Positions that its cache has on every rank before this step. */
  readonly offset: number;
  readonly count: number;
  readonly logitsCount: number;
  readonly draw?: TokenDraw;
  /** Only where each rank begins with them: of a pipeline, they stay on the first one. */
  readonly ids?: readonly number[];
}

/** Why a step could not be computed; `isLost`: for what an earlier one has lost. */
export interface Failure {
  readonly error: ErrorInfo;
  readonly isLost: boolean;
}

/** Operations on caches, with the step or the move that follows them if there is one. */
export interface StepHeader {
  readonly serial: number;
  readonly operations: readonly CacheOperation[];
  readonly inputs: readonly FrameInput[];
  readonly move?: KvMove;
  /** Whether an outcome is to come back. */
  readonly returns: boolean;
  /** Blocks that each of the ranks so far could hold; null: as many as anyone wants. */
  readonly blocksMax: number | null;
  /** Of the first rank's model files, where the ranks meet: those of all must be the same. */
  readonly weights?: string;
  /** How the ranks so far keep keys and values; absent: not alike, or this is not asked. */
  readonly kv?: string | undefined;
  readonly failure?: Failure;
}

/** What came of a step, from the last rank to the first. */
export interface OutcomeHeader {
  readonly serial: number;
  /** By sequence; null for those that wanted none. */
  readonly drawn: readonly (RowDrawn | null)[];
  readonly blocksMax: number | null;
  /** How all ranks keep keys and values, where that was asked. */
  readonly kv?: string | undefined;
  readonly failure?: Failure;
}

/**
 * The body of a step in a pipeline has its rows, that of an outcome the logits that were wanted; of
 * a move it has bytes.
 */
export type Header =
  | ({ readonly type: "step" } & StepHeader)
  | (
    & { readonly type: "outcome" }
    & OutcomeHeader
  );

/** A frame as it was read. */
export interface Frame {
  readonly header: Header;
  /** Its body, as the numbers or the bytes that it is. */
  readonly rows: Float32Array<ArrayBuffer>;
}

// A header is u32 how many numbers, u32 bytes of text, the numbers as float64, and the text: JSON of
// what is seldom said. Numbers, since a rank reads and writes a header for every token.
const LENGTHS_BYTES = 8;
const NUMBER_BYTES = 8;

const STEP = 0, OUTCOME = 1;
/** What is said as text. */
type Words = Pick<StepHeader, "failure" | "weights" | "kv">;

/** The beginning of a frame; what comes behind it lies at a multiple of 4. */
export function encodeHeader(header: Header): Uint8Array<ArrayBuffer> {
  const { serial, blocksMax } = header;
  const to = [FRAME_VERSION, header.type === "step" ? STEP : OUTCOME, serial, blocksMax ?? NONE];
  if (header.type === "step") {
    to.push(Number(header.returns), header.operations.length);
    for (const operation of header.operations) writeOperation(operation, to);
    to.push(header.inputs.length);
    for (const input of header.inputs) writeInput(input, to);
    writeMove(header.move, to);
  } else {
    to.push(header.drawn.length);
    for (const one of header.drawn) writeDrawn(one, to);
  }
  const text = new TextEncoder().encode(textOf(header));
  const textBytes = Math.ceil(text.length / 4) * 4;
  const bytes = new Uint8Array(LENGTHS_BYTES + to.length * NUMBER_BYTES + textBytes).fill(0x20);
  new Uint32Array(bytes.buffer, 0, 2).set([to.length, textBytes]);
  new Float64Array(bytes.buffer, LENGTHS_BYTES, to.length).set(to);
  bytes.set(text, LENGTHS_BYTES + to.length * NUMBER_BYTES);
  return bytes;
}

function textOf({ failure, weights, kv }: Words): string {
  if (!failure && weights === undefined && kv === undefined) return "";
  return JSON.stringify({ failure, weights, kv } satisfies { [name in keyof Words]: unknown });
}

function writeInput({ cache, offset, count, logitsCount, draw, ids }: FrameInput, to: number[]) {
  to.push(cache, offset, count, logitsCount, ids ? ids.length : NONE);
  if (ids) { for (const id of ids) to.push(id); }
  to.push(draw ? 1 : 0);
  if (!draw) return;
  const { seed, index, temperature, topP, topK, minP, repetitionPenalty, adjustments } = draw;
  const low = Number(BigInt.asUintN(32, seed)), high = Number(BigInt.asUintN(32, seed >> 32n));
  to.push(low, high, index, temperature, topP, topK, minP, repetitionPenalty);
  to.push(draw.topLogprobs ?? NONE, adjustments.length);
  for (const number of adjustments) to.push(number);
}

function readInput(from: NumberReader): FrameInput {
  const [cache, offset, count] = [from.count(), from.count(), from.count()];
  const logitsCount = from.count();
  const length = from.countOr(NONE);
  const ids = length === NONE ? {} : { ids: from.times(length, () => from.count()) };
  const draw = from.count(1) === 1 ? { draw: readDraw(from) } : {};
  return { cache, offset, count, logitsCount, ...draw, ...ids };
}

function readDraw(from: NumberReader): TokenDraw {
  const low = BigInt(from.count(0xffff_ffff)), high = BigInt(from.count(0xffff_ffff));
  const draw = {
    ...{ seed: high << 32n | low, index: from.count(), temperature: from.number() },
    ...{ topP: from.number(), topK: from.number(), minP: from.number() },
    repetitionPenalty: from.number(),
  };
  const topLogprobs = from.countOr(NONE, TOP_LOGPROBS_MAX);
  const adjustments = from.numbers(from.count());
  return { ...draw, adjustments, ...(topLogprobs === NONE ? {} : { topLogprobs }) };
}

function writeDrawn(one: RowDrawn | null, to: number[]): void {
  to.push(one ? 1 : 0);
  if (!one) return;
  const { id, logprob, top } = one;
  to.push(id, logprob === undefined ? 0 : 1, logprob ?? 0, top ? top.length : NONE);
  for (const other of top ?? []) to.push(other.id, other.logprob);
}

function readDrawn(from: NumberReader): RowDrawn | null {
  if (from.count(1) === 0) return null;
  const id = from.countOr(-1);
  const hasLogprob = from.count(1) === 1;
  const logprob = from.number();
  const length = from.countOr(NONE, TOP_LOGPROBS_MAX);
  const top = from.times(Math.max(0, length), () => ({ id: from.count(), logprob: from.number() }));
  return { id, ...(hasLogprob ? { logprob } : {}), ...(length === NONE ? {} : { top }) };
}

/** Numbers as the body of a frame. */
export function bodyOf(rows: Float32Array<ArrayBuffer> | undefined): Uint8Array<ArrayBuffer> {
  if (!rows) return new Uint8Array(0);
  return new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
}

/** @throws {AppError} `group_broken` for what is no frame, or one of another version of exo. */
export function decodeFrame(bytes: Uint8Array<ArrayBuffer>, from: string): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hasLengths = bytes.length >= LENGTHS_BYTES;
  const numbersEnd = hasLengths ? LENGTHS_BYTES + view.getUint32(0, true) * NUMBER_BYTES : Infinity;
  const headerEnd = numbersEnd + (hasLengths ? view.getUint32(4, true) : 0);
  if (headerEnd > bytes.length) throw notUnderstood(from, `${bytes.length} bytes`);
  const body = bytes.subarray(headerEnd);
  if (body.length % 4 !== 0) throw notUnderstood(from, `a body of ${body.length} bytes`);
  const text = bytes.subarray(numbersEnd, headerEnd);
  // Copied, since a view must begin at a multiple of 8.
  const numbers = new Float64Array(bytes.slice(LENGTHS_BYTES, numbersEnd).buffer);
  try {
    const header = readHeader(new NumberReader(numbers), text);
    // Where the frame does not begin at a multiple of 4, no view can: then it is copied.
    const at = body.byteOffset % 4 === 0 ? body : body.slice();
    return { header, rows: new Float32Array(at.buffer, at.byteOffset, at.length / 4) };
  } catch (error) {
    if (error instanceof Malformed) throw notUnderstood(from, `a header with ${error.message}`);
    throw error;
  }
}

function readHeader(from: NumberReader, text: Uint8Array): Header {
  const version = from.number();
  if (version !== FRAME_VERSION) throw new Malformed(`version ${version}`);
  const type = from.count(OUTCOME);
  const serial = from.count();
  const blocks = from.countOr(NONE);
  const blocksMax = blocks === NONE ? null : blocks;
  const common = { serial, blocksMax, ...readWords(text) };
  if (type === OUTCOME) {
    const drawn = from.times(from.count(INPUTS_MAX), () => readDrawn(from));
    from.end();
    return { type: "outcome", ...common, drawn };
  }
  const returns = from.count(1) === 1;
  const operations = from.times(from.count(OPS_MAX), () => readOperation(from));
  const inputs = from.times(from.count(INPUTS_MAX), () => readInput(from));
  const move = readMove(from);
  from.end();
  return { type: "step", ...common, returns, operations, inputs, ...(move ? { move } : {}) };
}

const WordsJson = z.object({
  failure: z.object({ error: ErrorInfo, isLost: z.boolean() }).optional(),
  weights: z.string().min(1).max(NAME_CHARS_MAX).optional(),
  kv: z.string().min(1).max(NAME_CHARS_MAX).optional(),
});

function readWords(text: Uint8Array): Words {
  if (text.length === 0) return {};
  try {
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
    const { failure, weights, kv } = WordsJson.parse(json);
    return {
      ...(failure ? { failure } : {}),
      ...(weights === undefined ? {} : { weights }),
      ...(kv === undefined ? {} : { kv }),
    };
  } catch {
    throw new Malformed("a text that says nothing");
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

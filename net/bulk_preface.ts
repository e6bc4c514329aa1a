/** The first bytes of a connection, and the numbers of a measurement. */

/** Says what the connection is for, and in which version. */
const MAGIC = "EXO1";

/** Characters of a token: a UUID. */
const TOKEN_CHARS = 36;

/** What a client sends first: the magic word and its token, in ASCII. */
export const PREFACE_BYTES = MAGIC.length + TOKEN_CHARS;

/** Bytes of a round's head: how many will follow. */
export const ROUND_BYTES = 8;

/** Bytes of a round's result. */
export const RESULT_BYTES = 16;

/** What has arrived of a round, and how long that took from its head on. */
export interface RoundResult {
  readonly bytes: number;
  readonly elapsedMs: number;
}

/** @throws {RangeError} when `token` is no token. */
export function encodePreface(token: string): Uint8Array<ArrayBuffer> {
  const preface = new TextEncoder().encode(MAGIC + token);
  if (preface.length === PREFACE_BYTES) return preface;
  throw new RangeError(`a token has ${TOKEN_CHARS} ASCII characters, not ${token.length}`);
}

/** The token of a preface; undefined when it is none. */
export function decodePreface(bytes: Uint8Array): string | undefined {
  if (bytes.length !== PREFACE_BYTES || bytes.some((byte) => byte > 0x7f)) return undefined;
  const text = new TextDecoder().decode(bytes);
  return text.startsWith(MAGIC) ? text.slice(MAGIC.length) : undefined;
}

/** The head of a round of `bytes`. */
export function encodeRound(bytes: number): Uint8Array<ArrayBuffer> {
  const head = new Uint8Array(ROUND_BYTES);
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes));
  return head;
}

/** How many bytes a round has; more than `bytesMax`: undefined. */
export function decodeRound(head: Uint8Array, bytesMax: number): number | undefined {
  const bytes = new DataView(head.buffer, head.byteOffset).getBigUint64(0);
  return bytes > BigInt(bytesMax) ? undefined : Number(bytes);
}

/** The result of a round. */
export function encodeResult({ bytes, elapsedMs }: RoundResult): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(RESULT_BYTES);
  const view = new DataView(result.buffer);
  view.setFloat64(0, bytes);
  view.setFloat64(8, elapsedMs);
  return result;
}

/** The result of a round of `bytesMax`; undefined when it cannot be one. */
export function decodeResult(result: Uint8Array, bytesMax: number): RoundResult | undefined {
  const view = new DataView(result.buffer, result.byteOffset);
  const [bytes, elapsedMs] = [view.getFloat64(0), view.getFloat64(8)];
  const isOne = Number.isSafeInteger(bytes) && bytes >= 0 && bytes <= bytesMax &&
    Number.isFinite(elapsedMs) && elapsedMs >= 0;
  return isOne ? { bytes, elapsedMs } : undefined;
}

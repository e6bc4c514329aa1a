/** How a node asks another to read a prompt for it. */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { encodeFrame } from "../core/frame_codec.ts";
import { FRAME_PREFIX_BYTES } from "../core/frames.ts";
import { InstanceId } from "../core/ids.ts";
import { PrefillRequest } from "../core/prefill.ts";
import { decodeMessage } from "./topics.ts";

/** Longest question without its tokens: the shapes of a model's layers have some 50 bytes each. */
const HEADER_BYTES_MAX = 512 * 1024;

/** Bytes of a token's id: u32, little-endian. */
const ID_BYTES = 4;

/** The question, and the answer: a stream of `net/bulk.ts` that is offered to whoever asked. */
export const PREFILL = {
  protocol: "/exo/prefill/2",
  /** The header of a frame whose body is the ids of the tokens up to one behind `stopPos`. */
  question: z.object({
    instanceId: InstanceId,
    request: PrefillRequest.omit({ tokenIds: true }),
  }),
  reply: z.object({ offerId: z.string().max(64) }),
};

/** A question of which the tokens have not been looked at. */
export interface PrefillQuestion extends z.infer<typeof PREFILL.question> {
  readonly idBytes: Uint8Array;
}

/** A prompt for an instance of the other node. */
export function encodeQuestion(instanceId: InstanceId, request: PrefillRequest): Uint8Array {
  const { tokenIds, ...rest } = request;
  const ids = new DataView(new ArrayBuffer(tokenIds.length * ID_BYTES));
  for (const [i, id] of tokenIds.entries()) ids.setUint32(i * ID_BYTES, id, true);
  return encodeFrame({ instanceId, request: rest }, new Uint8Array(ids.buffer));
}

/**
 * Reads a question, and not yet its tokens: whoever refuses it need not.
 * @throws {AppError} `invalid_request`.
 */
export function decodeQuestion(bytes: Uint8Array): PrefillQuestion {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const isFramed = bytes.length >= FRAME_PREFIX_BYTES;
  const [headerBytes, bodyBytes] = isFramed
    ? [view.getUint32(0, true), view.getUint32(ID_BYTES, true)]
    : [0, 0];
  const bodyAt = FRAME_PREFIX_BYTES + headerBytes;
  if (headerBytes > HEADER_BYTES_MAX || bodyAt + bodyBytes !== bytes.length) {
    throw unreadable(`${bytes.length} bytes with a header of ${headerBytes}`);
  }
  try {
    const header = bytes.subarray(FRAME_PREFIX_BYTES, bodyAt);
    return { ...decodeMessage(PREFILL.question, header), idBytes: bytes.subarray(bodyAt) };
  } catch (cause) {
    throw unreadable("a header of another form", cause);
  }
}

/** The tokens of a question. @throws {AppError} `invalid_request` where they are not as many. */
export function tokensOf({ request: { stopPos }, idBytes }: PrefillQuestion): number[] {
  const count = idBytes.length / ID_BYTES;
  if (count !== stopPos + 1) throw unreadable(`${count} tokens where ${stopPos + 1} are needed`);
  const view = new DataView(idBytes.buffer, idBytes.byteOffset, idBytes.length);
  return Array.from({ length: count }, (_, i) => view.getUint32(i * ID_BYTES, true));
}

function unreadable(found: string, cause?: unknown): AppError {
  return new AppError("invalid_request", `Cannot read what prompt is to be prefilled: ${found}`, {
    hint: "run the same version of exo on both nodes",
    cause,
  });
}

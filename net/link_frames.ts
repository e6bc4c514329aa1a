/** What the two ends of a link say to each other, as bytes. */
import { z } from "zod";
import { AppError, ErrorInfo } from "../core/errors.ts";
import { frame } from "./framing.ts";

/** Bytes of one frame of a link: larger bodies come in parts, so that pings get between them. */
export const LINK_FRAME_BYTES_MAX = 64 * 1024;

/** Most addresses of a node that are told, and tried. */
export const ADDRESSES_MAX = 32;

const ADDRESS_CHARS_MAX = 256;
const PROTOCOL_CHARS_MAX = 64;

/** How a node introduces itself to whoever it has a connection with. */
export const Hello = z.object({
  /** The same for all nodes of one host that share its loopback; no other host has it. */
  hostId: z.string().min(1).max(128),
  /** Multiaddrs at which it listens. */
  addresses: z.array(z.string().max(ADDRESS_CHARS_MAX)).max(ADDRESSES_MAX),
});
export type Hello = z.infer<typeof Hello>;

/** One frame. `id` tells which request or ping it belongs to. */
export type LinkFrame =
  | { readonly type: "Hello"; readonly hello: Hello }
  | { readonly type: "Ping" | "Pong"; readonly id: number }
  /** A piece of a request's or an answer's body; the last is the `Request` or `Answer`. */
  | { readonly type: "RequestPart" | "AnswerPart"; readonly id: number; readonly bytes: Uint8Array }
  | {
    readonly type: "Request";
    readonly id: number;
    readonly protocol: string;
    readonly bytes: Uint8Array;
  }
  | { readonly type: "Answer"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly type: "Failure"; readonly id: number; readonly error: ErrorInfo };

/** The first byte of a frame, by its type. */
const KINDS = [
  "Hello",
  "Ping",
  "Pong",
  "RequestPart",
  "Request",
  "AnswerPart",
  "Answer",
  "Failure",
] as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A frame in the pieces in which it is written. */
export function encodeLinkFrame(one: LinkFrame): Uint8Array[] {
  return frame(KINDS.indexOf(one.type), bodyOf(one));
}

/**
 * The frame that these bytes are.
 * @throws {Error} when they are none.
 */
export function decodeLinkFrame(bytes: Uint8Array): LinkFrame {
  const type = KINDS[bytes[0] ?? KINDS.length];
  const body = bytes.subarray(1);
  if (type === undefined) throw malformed("it is of no known kind");
  if (type === "Hello") return { type, hello: Hello.parse(json(body)) };
  if (body.length < 4) throw malformed("it is too short");
  const id = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
  const rest = body.subarray(4);
  switch (type) {
    case "Ping":
    case "Pong":
      return { type, id };
    case "Request": {
      const length = rest[0] ?? 0;
      if (length === 0 || length > PROTOCOL_CHARS_MAX || rest.length < 1 + length) {
        throw malformed("it names no protocol");
      }
      const protocol = decoder.decode(rest.subarray(1, 1 + length));
      return { type, id, protocol, bytes: rest.subarray(1 + length) };
    }
    case "RequestPart":
    case "AnswerPart":
    case "Answer":
      return { type, id, bytes: rest };
    case "Failure":
      return { type, id, error: ErrorInfo.parse(json(rest)) };
    default:
      return type satisfies never;
  }
}

function bodyOf(one: LinkFrame): Uint8Array {
  if (one.type === "Hello") return encoder.encode(JSON.stringify(one.hello));
  const tail = tailOf(one);
  const length = tail.reduce((sum, part) => sum + part.length, 4);
  const body = new Uint8Array(length);
  new DataView(body.buffer).setUint32(0, one.id, true);
  let at = 4;
  for (const part of tail) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}

function tailOf(one: Exclude<LinkFrame, { type: "Hello" }>): Uint8Array[] {
  switch (one.type) {
    case "Ping":
    case "Pong":
      return [];
    case "Request": {
      const protocol = encoder.encode(one.protocol);
      return [Uint8Array.of(protocol.length), protocol, one.bytes];
    }
    case "RequestPart":
    case "AnswerPart":
    case "Answer":
      return [one.bytes];
    case "Failure":
      return [encoder.encode(JSON.stringify(one.error))];
    default:
      return one satisfies never;
  }
}

function json(bytes: Uint8Array): unknown {
  return JSON.parse(decoder.decode(bytes));
}

function malformed(found: string): AppError {
  return new AppError("invalid_request", `Cannot read a frame of a link: ${found}`);
}

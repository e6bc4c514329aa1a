/** What the two ends of a link say to each other, as bytes. */
import { z } from "zod";
import { AppError, ErrorInfo } from "../core/errors.ts";
import { NodeId } from "../core/ids.ts";
import { frame } from "./framing.ts";
import { NAME_BYTES_MAX } from "./refusals.ts";

/** Bytes of one frame of a link: larger bodies come in parts, so that pings get between them. */
export const LINK_FRAME_BYTES_MAX = 64 * 1024;

/** Most addresses of a node that are told, and tried. */
export const ADDRESSES_MAX = 32;

const ADDRESS_CHARS_MAX = 256;

/** Nodes of which one tells others. */
export const PEERS_TOLD_MAX = 128;

/** Addresses of each. */
export const PEER_ADDRESSES_TOLD_MAX = 4;

const addresses = z.array(z.string().max(ADDRESS_CHARS_MAX)).max(ADDRESSES_MAX);

/** How a node introduces itself to whoever it has a connection with. */
export const Hello = z.object({
  /** The same for all nodes of one host that share its loopback; no other host has it. */
  hostId: z.string().min(1).max(128),
  /** Multiaddrs at which it listens. */
  addresses,
  /** Nodes that it has connections with, so that whoever knows one node soon knows all. */
  peers: z.array(z.object({ nodeId: NodeId, addresses })).max(PEERS_TOLD_MAX),
  /** Whether `peers` are all of them. */
  isAll: z.boolean(),
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
  /** A message of a topic. */
  | { readonly type: "Publish"; readonly topic: string; readonly bytes: Uint8Array }
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
  "Publish",
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
  if (type === "Publish") {
    const { name: topic, bytes } = named(body);
    return { type, topic, bytes };
  }
  if (body.length < 4) throw malformed("it is too short");
  const id = new DataView(body.buffer, body.byteOffset).getUint32(0, true);
  const rest = body.subarray(4);
  switch (type) {
    case "Ping":
    case "Pong":
      return { type, id };
    case "Request": {
      const { name: protocol, bytes } = named(rest);
      return { type, id, protocol, bytes };
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

/** What follows a name in front of which its length is. */
function named(body: Uint8Array): { name: string; bytes: Uint8Array } {
  const length = body[0] ?? 0;
  if (length === 0 || length > NAME_BYTES_MAX || body.length < 1 + length) {
    throw malformed("it names no protocol or topic");
  }
  return { name: decoder.decode(body.subarray(1, 1 + length)), bytes: body.subarray(1 + length) };
}

function bodyOf(one: LinkFrame): Uint8Array {
  if (one.type === "Hello") return encoder.encode(JSON.stringify(one.hello));
  if (one.type === "Publish") return joined([...withName(one.topic), one.bytes]);
  const id = new Uint8Array(4);
  new DataView(id.buffer).setUint32(0, one.id, true);
  return joined([id, ...tailOf(one)]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const body = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}

function withName(name: string): Uint8Array[] {
  const bytes = encoder.encode(name);
  return [Uint8Array.of(bytes.length), bytes];
}

function tailOf(one: Exclude<LinkFrame, { type: "Hello" | "Publish" }>): Uint8Array[] {
  switch (one.type) {
    case "Ping":
    case "Pong":
      return [];
    case "Request":
      return [...withName(one.protocol), one.bytes];
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

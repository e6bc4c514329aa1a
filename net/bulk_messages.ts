/** What the front of bulk transfers, its worker and its peers say to each other, and the limits. */
import { z } from "zod";
import type { ErrorInfo } from "../core/errors.ts";
import type { Ring } from "../core/ring.ts";

/** The one name on every node's certificate; who is meant is said by the certificate itself. */
export const BULK_SERVER_NAME = "bulk.exo";

/** Connections that a node serves at once; further ones are closed unread. */
export const CONNECTIONS_MAX = 16;

/** Offers that are open at once. */
export const OFFERS_MAX = 64;

/** Tokens that wait for their connection. */
export const GRANTS_MAX = 64;

/** Tokens of one peer among them. */
export const GRANTS_PER_PEER_MAX = 8;

/** How long a token waits for its connection. */
export const GRANT_LIFETIME_MS = 10_000;

/** How long a connection may take to come about, handshake and token. */
export const CONNECT_TIMEOUT_MS = 3_000;

/** A transfer that does not move for so long is given up. */
export const IDLE_TIMEOUT_MS = 10_000;

/** Bytes of one read or write. */
export const BLOCK_BYTES = 256 * 1024;

/** Blocks that wait for a reader in the main thread before the sender is held back. */
export const BLOCKS_WAITING_MAX = 8;

/** How often the main thread is told how far a stream is. */
export const FLOW_MS = 5;

/** Bytes of a measurement's first round. */
export const MEASURE_BYTES_MIN = 1024 * 1024;

/** Bytes of all rounds of a measurement. */
export const MEASURE_BYTES_MAX = 64 * 1024 * 1024;

/** A round that takes so long is exact enough; two of them in a row are the last. */
export const MEASURE_ROUND_MS = 20;

/** A measurement that takes so long ends with what has arrived by then. */
export const MEASURE_MS_MAX = 2_000;

/** Longest message of the protocol, either way: a certificate has some 500 bytes. */
const TEXT_CHARS_MAX = 4_096;

/** How a node asks another for a token. */
export const BULK = {
  protocol: "/exo/bulk/1",
  request: z.discriminatedUnion("type", [
    /** "I want the bytes that you offer me under this id." */
    z.object({ type: z.literal("Receive"), offerId: z.string().max(64) }),
    /** "I want to send you bytes, to see how fast they arrive." */
    z.object({ type: z.literal("Measure") }),
  ]),
  grant: z.object({
    port: z.number().int().min(1).max(65_535),
    certificatePem: z.string().max(TEXT_CHARS_MAX),
    token: z.string().max(64),
    /** What will be sent; 0 for a measurement, whose limit is `MEASURE_BYTES_MAX`. */
    bytes: z.number().int().min(0),
  }),
};

/** What a peer asks for. */
export type BulkRequest = z.infer<typeof BULK.request>;

/** The answer: one connection may be made with this. */
export type BulkGrant = z.infer<typeof BULK.grant>;

/** A piece of a file. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Where bytes come from. Those of a `SharedArrayBuffer` are not copied. */
export type BulkSource =
  | { readonly type: "File"; readonly path: string; readonly ranges: readonly ByteRange[] }
  | { readonly type: "Memory"; readonly bytes: Uint8Array }
  /** A ring file that another process fills; `Flow` tells how far it is. */
  | { readonly type: "Ring"; readonly streamId: number; readonly ring: Ring };

/** What a token is good for, once. */
export type BulkPurpose =
  | { readonly type: "Measure" }
  | { readonly type: "Send"; readonly source: BulkSource; readonly bytes: number };

/** Where to connect to, and what to show there. */
export interface BulkTarget {
  readonly host: string;
  readonly grant: BulkGrant;
}

/** What the front asks of its worker; each order with an `id` is answered by a report with it. */
export type BulkOrder =
  | {
    readonly type: "Grant";
    readonly id: number;
    readonly peer: string;
    readonly token: string;
    readonly lifetimeMs: number;
    readonly purpose: BulkPurpose;
  }
  | {
    readonly type: "Receive";
    readonly id: number;
    readonly target: BulkTarget;
    /** A file to write; absent: blocks for the main thread. */
    readonly path?: string | undefined;
  }
  /** The same into a ring file that another process empties, until the other side ends. */
  | {
    readonly type: "ReceiveStream";
    readonly id: number;
    readonly target: BulkTarget;
    readonly ring: Ring;
  }
  /**
   * How far the other process is: bytes of a stream that it has written, or, of one that is
   * received, taken. `end`: it writes no more; `broken`: what it wrote is of no use.
   */
  | {
    readonly type: "Flow";
    readonly id: number;
    readonly bytes: number;
    readonly end?: "done" | "broken" | undefined;
    /** Why it is broken: whoever comes for the bytes is told. */
    readonly error?: ErrorInfo | undefined;
  }
  | { readonly type: "Measure"; readonly id: number; readonly target: BulkTarget }
  /** The main thread has read a block, and gives its memory back for the next. */
  | { readonly type: "Taken"; readonly id: number; readonly buffer: ArrayBuffer }
  | { readonly type: "Cancel"; readonly id: number };

/** What a node says of its listener when it grants a token. */
export interface BulkDoor {
  readonly port: number;
  readonly certificatePem: string;
}

/** What the worker answers. */
export type BulkReport =
  | { readonly type: "Block"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  /** Bytes of a ring that were sent, or that have arrived; `isOver`: no more are sent. */
  | {
    readonly type: "Flow";
    readonly id: number;
    readonly bytes: number;
    readonly isOver?: boolean | undefined;
  }
  /** A door, bytes received, or bits per second. */
  | { readonly type: "Done"; readonly id: number; readonly result: BulkDoor | number }
  | { readonly type: "Failed"; readonly id: number; readonly error: ErrorInfo };

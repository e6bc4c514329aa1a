import { AppError, type ErrorInfo } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";
import type { Ring } from "../core/ring.ts";
import {
  BULK,
  type BulkGrant,
  type BulkPurpose,
  type BulkSource,
  type BulkTarget,
  type ByteRange,
  GRANT_LIFETIME_MS,
  OFFERS_MAX,
} from "./bulk_messages.ts";
import { BulkThread, type ReceivedStream, type TakeBlock } from "./bulk_thread.ts";
import { decodeMessage, encodeMessage } from "./topics.ts";
import type { Link, Transport } from "./transport.ts";

/** How long another node may take to grant a transfer: its first makes a certificate. */
const GRANT_TIMEOUT_MS = 5_000;

/** What one peer may receive. */
export type Offered =
  | { readonly path: string; readonly ranges?: readonly ByteRange[] | undefined }
  | { readonly bytes: Uint8Array };

/** Bytes that wait for a peer; it is told the id by whoever offers. */
export interface Offer {
  readonly offerId: string;
  readonly bytes: number;
  /** Nobody gets them any more; a transfer that has begun goes on. */
  withdraw(): void;
}

/** A stream that waits for a peer; it is told the id by whoever offers. */
export interface StreamOffer {
  readonly offerId: string;
  /** So many bytes are in the ring by now; whether these are all. */
  written(bytes: number, isAll: boolean): void;
  /** Nobody gets them any more; a transfer that has begun breaks. Whoever comes hears `error`. */
  withdraw(error?: ErrorInfo): void;
}

/** What bulk transfers work with. */
export interface BulkOptions {
  /** A fresh UUID, from a source that nobody can guess. */
  readonly newToken: () => string;
  /** How long a token waits for its connection. */
  readonly grantLifetimeMs?: number | undefined;
}

/**
 * Bytes from node to node beside the transport, over TLS sockets of their own in a thread of their
 * own (design D16): weights, KV, and how fast a link is. The thread begins with the first transfer.
 */
export class Bulk {
  readonly #transport: Transport;
  readonly #options: BulkOptions;
  readonly #thread = new BulkThread();
  readonly #offers = new Map<string, { to: NodeId; source: BulkSource; bytes: number }>();
  /** Why offers were withdrawn, for those who come later. */
  readonly #refusals = new Map<string, { readonly to: NodeId; readonly error: ErrorInfo }>();
  readonly #stop: () => void;

  /** Answers requests from now on. */
  constructor(transport: Transport, options: BulkOptions) {
    [this.#transport, this.#options] = [transport, options];
    this.#stop = transport.handle(
      BULK.protocol,
      async (body, from) => encodeMessage(await this.#grant(body, from)),
    );
  }

  /** Breaks every transfer. */
  close(): void {
    this.#stop();
    this.#offers.clear();
    this.#thread.close();
  }

  /**
   * Lets `to`, and nobody else, receive a file, pieces of it, or bytes in memory.
   * @throws {AppError} `queue_full`, or `invalid_request` where the file has no such ranges.
   */
  async offer(to: NodeId, what: Offered): Promise<Offer> {
    const source = await sourceOf(what);
    this.#requireRoom(to);
    const bytes = bytesOf(source);
    const offerId = this.#options.newToken();
    this.#offers.set(offerId, { to, source, bytes });
    return { offerId, bytes, withdraw: () => void this.#offers.delete(offerId) };
  }

  /**
   * Receives what the peer at the other end of `link` offers, into a file, which is whole or not
   * there, or block by block: each is valid until `into` is done with it, then the next is given.
   * @returns the number of bytes.
   * @throws {AppError} `not_found` when nothing is offered to this node under that id,
   * `node_unreachable`, `timed_out`, `cancelled`, or what `into` throws.
   */
  async receive(
    link: Link,
    offerId: string,
    into: string | TakeBlock,
    signal?: AbortSignal,
  ): Promise<number> {
    const target = await this.#target(link, { type: "Receive", offerId });
    return await this.#thread.receive(target, into, signal);
  }

  /**
   * Lets `to`, and nobody else, receive what another process writes into a ring file from now on;
   * `sent` hears how much has gone, and that no more goes.
   * @throws {AppError} `queue_full`.
   */
  offerStream(
    to: NodeId,
    ring: Ring,
    sent: (bytes: number, isOver: boolean) => void,
  ): StreamOffer {
    this.#requireRoom(to);
    const offerId = this.#options.newToken();
    const streamId = this.#thread.addStream((bytes, isOver) => {
      if (isOver) this.#offers.delete(offerId);
      sent(bytes, isOver);
    });
    this.#offers.set(offerId, { to, source: { type: "Ring", streamId, ring }, bytes: 0 });
    return {
      offerId,
      written: (bytes, isAll) => this.#thread.written(streamId, bytes, isAll ? "done" : undefined),
      withdraw: (error) => {
        this.#offers.delete(offerId);
        this.#thread.break(streamId, error);
        if (error) this.#refuse(offerId, { to, error });
      },
    };
  }

  /**
   * Receives a stream that the peer at the other end of `link` offers into a ring file, which is
   * made; `arrived` hears how much is there.
   * @throws {AppError} as `receive`, for what is asked of the peer.
   */
  async receiveStream(
    link: Link,
    offerId: string,
    { ring, arrived }: { ring: Ring; arrived: (bytes: number) => void },
  ): Promise<ReceivedStream> {
    const target = await this.#target(link, { type: "Receive", offerId });
    return this.#thread.receiveStream(target, ring, arrived);
  }

  /**
   * How many bits per second arrive at the peer over this link; sends 64 MiB at most, for 2 s.
   * @throws {AppError} `node_unreachable`, `timed_out`, `queue_full`.
   */
  async measureBandwidth(link: Link): Promise<number> {
    return await this.#thread.measure(await this.#target(link, { type: "Measure" }));
  }

  #refuse(offerId: string, refusal: { readonly to: NodeId; readonly error: ErrorInfo }): void {
    this.#refusals.set(offerId, refusal);
    const [oldest] = this.#refusals.keys();
    if (oldest !== undefined && this.#refusals.size > OFFERS_MAX) this.#refusals.delete(oldest);
  }

  #requireRoom(to: NodeId): void {
    if (this.#offers.size < OFFERS_MAX) return;
    const found = `${this.#offers.size} offers are open, at most ${OFFERS_MAX} may be`;
    throw new AppError("queue_full", `Cannot offer bytes to ${to}: ${found}`, {
      hint: "withdraw offers that were received",
    });
  }

  async #target({ peer, address }: Link, request: unknown): Promise<BulkTarget> {
    const host = parseMultiaddr(address)?.host;
    if (host === undefined) {
      throw new AppError(
        "invalid_request",
        `Cannot connect to ${peer} at ${address}: it is no TCP address, as /ip4/10.0.0.2 is one`,
        { hint: "take an address of the node's links, as exo status shows them" },
      );
    }
    const timeout = { timeoutMs: GRANT_TIMEOUT_MS };
    const body = encodeMessage(request);
    const reply = await this.#transport.request(peer, BULK.protocol, body, timeout);
    return { host, grant: decodeMessage(BULK.grant, reply) };
  }

  /** A peer wants a transfer: it gets a token if there is something for it. */
  async #grant(body: Uint8Array, from: NodeId): Promise<BulkGrant> {
    const purpose = this.#purpose(body, from);
    const token = this.#options.newToken();
    const lifetimeMs = this.#options.grantLifetimeMs ?? GRANT_LIFETIME_MS;
    const door = await this.#thread.grant({ peer: from, token, lifetimeMs, purpose });
    return { ...door, token, bytes: purpose.type === "Send" ? purpose.bytes : 0 };
  }

  #purpose(body: Uint8Array, from: NodeId): BulkPurpose {
    const request = requestOf(body);
    if (request.type === "Measure") return { type: "Measure" };
    const offer = this.#offers.get(request.offerId);
    // Whether somebody else is offered it is nobody's business.
    if (offer?.to === from) return { type: "Send", source: offer.source, bytes: offer.bytes };
    const refusal = this.#refusals.get(request.offerId);
    if (refusal?.to === from) throw AppError.from(refusal.error);
    throw new AppError(
      "not_found",
      `Cannot send bulk bytes: ${this.#transport.self} offers ${from} nothing under this id`,
      { hint: "ask for a new offer; the node may have been restarted" },
    );
  }
}

function requestOf(body: Uint8Array) {
  try {
    return decodeMessage(BULK.request, body);
  } catch (cause) {
    throw new AppError("invalid_request", "Cannot read a request for bulk bytes", {
      hint: "run the same version of exo on both nodes",
      cause,
    });
  }
}

type StillSource = Exclude<BulkSource, { type: "Ring" }>;

async function sourceOf(what: Offered): Promise<StillSource> {
  if ("bytes" in what) return { type: "Memory", bytes: what.bytes };
  const { path } = what;
  const { size } = await Deno.stat(path);
  const ranges = what.ranges ?? [{ offset: 0, length: size }];
  const wrong = ranges.find(({ offset, length }) =>
    !(offset >= 0 && length >= 0 && offset + length <= size)
  );
  if (!wrong) return { type: "File", path, ranges };
  const found = `bytes ${wrong.offset} to ${wrong.offset + wrong.length} are asked for`;
  throw new AppError("invalid_request", `Cannot offer ${path}: ${found}, it has ${size}`, {
    hint: "read the file's header again: it may have changed",
  });
}

function bytesOf(source: StillSource): number {
  if (source.type === "Memory") return source.bytes.length;
  return source.ranges.reduce((sum, { length }) => sum + length, 0);
}

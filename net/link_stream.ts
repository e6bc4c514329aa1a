import type { Stream } from "@libp2p/interface";
import { AppError, toAppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { creditInBulk } from "./credit_in_bulk.ts";
import { FrameReader } from "./framing.ts";
import {
  decodeLinkFrame,
  encodeLinkFrame,
  type Hello,
  LINK_FRAME_BYTES_MAX,
  type LinkFrame,
} from "./link_frames.ts";
import { RateLimit } from "./rate_limit.ts";
import { tooLate, unreachable } from "./refusals.ts";
import { MESSAGE_BYTES_MAX } from "./transport.ts";

/** Requests of one peer that are being answered at once, or wait for their answers here. */
const REQUESTS_MAX = 1_024;

/** Requests of one peer in a second, and at once. */
const REQUEST_RATE = { perSecond: 2_000, burst: 4_000 };

/** Bytes that wait to be written before further small messages are refused. */
const OUTBOX_BYTES_MAX = 16 * 1024 * 1024;

/** Bytes that wait to be written to a peer that asks on and on, and does not read. */
const UNREAD_BYTES_MAX = 128 * 1024 * 1024;

/** Bytes of a body that go in one frame, beside what a frame has in front. */
export const PART_BYTES = LINK_FRAME_BYTES_MAX - 256;

/** Pieces in which a body may come: those of a peer of ours are all full but the last. */
const PARTS_MAX = Math.ceil(MESSAGE_BYTES_MAX / PART_BYTES);

/** Bytes of requests of one peer of which only parts have come; what is beyond is refused. */
const COMING_BYTES_MAX = 4 * MESSAGE_BYTES_MAX;

/** So much of a failure's message fits into a frame, however it is escaped. */
const FAILURE_CHARS_MAX = 8 * 1024;

/** How much of the newest round-trip time goes into the smoothed one. */
const RTT_WEIGHT = 0.3;

/** What a link needs of the transport that it is part of. */
export interface LinkHandlers {
  /** Answers a request of the peer. */
  readonly answer: (protocol: string, body: Uint8Array) => Promise<Uint8Array>;
  /** The peer says something on a topic, to all or to this node. */
  readonly published: (topic: string, message: Uint8Array) => void;
  /** The peer has introduced itself, for the first time or anew. */
  readonly greeted: (hello: Hello) => void;
  /** It is gone, and its connection with it. */
  readonly closed: (reason: string) => void;
}

interface Asked {
  readonly settle: (answer: Uint8Array | AppError) => void;
  readonly parts: Parts;
}

/**
 * The stream on which two nodes talk all the time that they have a connection: who they are, whether
 * they live, and requests. Whoever dialled pings.
 */
export class LinkStream {
  readonly peer: NodeId;
  readonly #stream: Stream;
  readonly #handlers: LinkHandlers;
  readonly #reader = new FrameReader(LINK_FRAME_BYTES_MAX + 1);
  readonly #asked = new Map<number, Asked>();
  /** Requests of which only parts have come. */
  readonly #coming = new Map<number, Parts>();
  readonly #rate = new RateLimit(REQUEST_RATE, performance.now());
  #answering = 0;
  #nextId = 1;
  #ping: { readonly id: number; readonly at: number } | undefined;
  #heardAt = performance.now();
  #spokeAt = performance.now();
  #rttMs: number | undefined;
  #pongCount = 0;
  #hello: Hello | undefined;
  #isClosed = false;

  constructor(stream: Stream, peer: NodeId, handlers: LinkHandlers) {
    this.#stream = stream;
    this.peer = peer;
    this.#handlers = handlers;
    creditInBulk(stream);
    stream.addEventListener("close", () => this.close("the connection is gone"));
    stream.addEventListener("remoteCloseWrite", () => this.close("the peer has ended it"));
    stream.addEventListener("message", ({ data }) => this.#hear(data.subarray()));
  }

  /** How the peer has introduced itself; undefined before it has. */
  get hello(): Hello | undefined {
    return this.#isClosed ? undefined : this.#hello;
  }

  /** Round trips that were measured. */
  get pongCount(): number {
    return this.#pongCount;
  }

  /** One round trip: the shortest one, growing slowly when they take longer. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** For how long nothing has been heard. */
  silentMs(): number {
    return performance.now() - this.#heardAt;
  }

  /** For how long one end has said nothing. */
  quietMs(): number {
    return performance.now() - Math.min(this.#heardAt, this.#spokeAt);
  }

  /** This process itself has not listened for so long. */
  excuse(ms: number): void {
    this.#heardAt += ms;
  }

  greet(hello: Hello): void {
    this.#write({ type: "Hello", hello });
  }

  /** Measures a round trip, unless one is being measured. */
  ping(): void {
    if (this.#ping) return;
    this.#ping = { id: this.#newId(), at: performance.now() };
    this.#write({ type: "Ping", id: this.#ping.id });
  }

  /** A message of a topic, for this peer; false when there is no room for it. */
  publish(topic: string, bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#stream.writeBufferLength > OUTBOX_BYTES_MAX) return false;
    this.#write({ type: "Publish", topic, bytes });
    return true;
  }

  /**
   * One question, one answer.
   * @throws {AppError} `node_unreachable`, `timed_out`, `queue_full`, or what the handler threw.
   */
  async request(
    protocol: string,
    body: Uint8Array,
    { timeoutMs }: { timeoutMs: number },
  ): Promise<Uint8Array> {
    if (this.#isClosed) throw unreachable(this.peer, protocol);
    const isFull = this.#stream.writeBufferLength > OUTBOX_BYTES_MAX;
    if (isFull || this.#asked.size >= REQUESTS_MAX) throw this.#crowded(protocol);
    const id = this.#newId();
    const timer = setTimeout(
      () => this.#settle(id, tooLate(this.peer, protocol, timeoutMs)),
      timeoutMs,
    );
    const answered = new Promise<Uint8Array>((resolve, reject) => {
      const settle = (answer: Uint8Array | AppError) =>
        answer instanceof AppError ? reject(answer) : resolve(answer);
      this.#asked.set(id, { settle, parts: new Parts() });
    });
    try {
      const sent = this.#writeBody(
        body,
        (type, bytes) =>
          type === "part"
            ? { type: "RequestPart", id, bytes }
            : { type: "Request", id, protocol, bytes },
      );
      const [answer] = await Promise.all([answered, sent]);
      return answer;
    } finally {
      clearTimeout(timer);
      this.#asked.delete(id);
    }
  }

  /** Ends it; what waits for an answer hears so. */
  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#coming.clear();
    for (const id of [...this.#asked.keys()]) this.#settle(id, unreachable(this.peer, "a request"));
    this.#stream.abort(new Error(reason));
    this.#handlers.closed(reason);
  }

  #newId(): number {
    this.#nextId = (this.#nextId + 1) >>> 0;
    return this.#nextId;
  }

  #hear(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#heardAt = performance.now();
    try {
      for (const one of this.#reader.push(bytes)) {
        this.#take(decodeLinkFrame(one));
        if (this.#isClosed) return;
      }
    } catch (cause) {
      this.close(`what the peer sends cannot be read: ${cause}`);
    }
  }

  #take(one: LinkFrame): void {
    switch (one.type) {
      case "Hello":
        this.#hello = one.hello;
        return this.#handlers.greeted(one.hello);
      case "Ping":
        return this.#write({ type: "Pong", id: one.id });
      case "Pong":
        return this.#ponged(one.id);
      case "RequestPart":
        return this.#requestPart(one.id, one.bytes);
      case "Request":
        return void this.#answer(one);
      case "AnswerPart":
        return this.#asked.get(one.id)?.parts.add(one.bytes);
      case "Answer":
        return this.#settle(one.id, this.#asked.get(one.id)?.parts.join(one.bytes));
      case "Publish":
        return this.#handlers.published(one.topic, one.bytes);
      case "Failure":
        return this.#settle(one.id, AppError.from(one.error));
      default:
        return one satisfies never;
    }
  }

  #ponged(id: number): void {
    if (this.#ping?.id !== id) return;
    const rttMs = performance.now() - this.#ping.at;
    const before = this.#rttMs ?? rttMs;
    // What makes it longer is mostly not the way: a node that is busy, above all when it starts.
    this.#rttMs = rttMs < before ? rttMs : before + (rttMs - before) * RTT_WEIGHT;
    this.#pongCount++;
    this.#ping = undefined;
  }

  #settle(id: number, answer: Uint8Array | AppError | undefined): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (answer !== undefined) asked?.settle(answer);
  }

  #requestPart(id: number, bytes: Uint8Array): void {
    const parts = this.#coming.get(id) ?? new Parts();
    this.#coming.set(id, parts);
    if (this.#coming.size > REQUESTS_MAX) throw this.#crowded("a request in parts");
    let held = 0;
    for (const { length } of this.#coming.values()) held += length;
    if (held + bytes.length > COMING_BYTES_MAX) parts.refuse();
    parts.add(bytes);
  }

  async #answer({ id, protocol, bytes }: Extract<LinkFrame, { type: "Request" }>): Promise<void> {
    const parts = this.#coming.get(id);
    this.#coming.delete(id);
    try {
      const body = parts?.join(bytes) ?? bytes;
      const isBusy = this.#answering >= REQUESTS_MAX || parts?.isRefused;
      if (isBusy || !this.#rate.take(performance.now())) throw this.#crowded(protocol);
      this.#answering++;
      const answer = await this.#handlers.answer(protocol, body).finally(() => this.#answering--);
      await this.#writeBody(answer, (type, part) => ({
        type: type === "part" ? "AnswerPart" : "Answer",
        id,
        bytes: part,
      }));
    } catch (cause) {
      const error = toAppError(cause).toInfo();
      const message = error.message.slice(0, FAILURE_CHARS_MAX);
      this.#write({ type: "Failure", id, error: { ...error, message } });
    }
  }

  /** A body in frames, each when the connection can take it. */
  async #writeBody(
    body: Uint8Array,
    frameOf: (type: "part" | "last", bytes: Uint8Array) => LinkFrame,
  ): Promise<void> {
    let rest = body;
    while (rest.length > PART_BYTES) {
      this.#write(frameOf("part", rest.subarray(0, PART_BYTES)));
      rest = rest.subarray(PART_BYTES);
      if (this.#stream.writableNeedsDrain) await this.#stream.onDrain();
      if (this.#isClosed) throw unreachable(this.peer, "a large message");
    }
    this.#write(frameOf("last", rest));
  }

  #write(one: LinkFrame): void {
    if (this.#isClosed) return;
    try {
      for (const part of encodeLinkFrame(one)) this.#stream.send(part);
      this.#spokeAt = performance.now();
    } catch (cause) {
      this.close(`it cannot be written to: ${cause}`);
    }
    if (this.#stream.writeBufferLength > UNREAD_BYTES_MAX) this.close("the peer does not read");
  }

  #crowded(protocol: string): AppError {
    const found = `${this.peer} has too many requests already`;
    return new AppError("queue_full", `Cannot take a request for ${protocol}: ${found}`);
  }
}

/** The pieces of a body that have come. */
class Parts {
  #parts: Uint8Array[] = [];
  #length = 0;
  isRefused = false;

  /** Bytes that are held. */
  get length(): number {
    return this.#length;
  }

  /** There is no room for it: nothing of it is kept. */
  refuse(): void {
    this.isRefused = true;
    this.#parts = [];
    this.#length = 0;
  }

  add(bytes: Uint8Array): void {
    if (this.isRefused) return;
    this.#length += bytes.length;
    if (this.#length > MESSAGE_BYTES_MAX || this.#parts.length > PARTS_MAX) {
      const found = `found more than ${MESSAGE_BYTES_MAX} bytes, or more parts than they need`;
      throw new AppError("payload_too_large", `Cannot take a message in parts: ${found}`);
    }
    this.#parts.push(bytes);
  }

  /** All of it, with its last piece. */
  join(last: Uint8Array): Uint8Array {
    if (this.#parts.length === 0) return last;
    this.add(last);
    const joined = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      joined.set(part, at);
      at += part.length;
    }
    return joined;
  }
}

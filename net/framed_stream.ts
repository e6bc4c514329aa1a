import type { Stream } from "@libp2p/interface";
import { AppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { Channel } from "./channel.ts";
import { creditInBulk } from "./credit_in_bulk.ts";
import { frame, FrameReader } from "./framing.ts";
import { NAME_BYTES_MAX } from "./refusals.ts";
import { MESSAGE_BYTES_MAX, type MessageStream, STREAM_CREDIT_MESSAGES } from "./transport.ts";

/** What a frame of a stream is, its first byte. */
const FRAME = { message: 0, credit: 1, end: 2, open: 3, accept: 4 } as const;

/** Messages that are read before the writer is told, unless it waits for it. */
const CREDIT_BATCH = 32;

/** Bytes that wait for a slow reader before the peer is held back by the connection, too. */
const INBOX_BYTES_MAX = 16 * 1024 * 1024;

/** How long a stream that both ends have ended may take to close. */
const CLOSE_TIMEOUT_MS = 10_000;

interface Writer {
  readonly message: Uint8Array;
  readonly done: () => void;
  readonly failed: (cause: AppError) => void;
}

/**
 * Messages over a libp2p stream. Each direction has a credit of `STREAM_CREDIT_MESSAGES`, which the
 * reader gives back as it reads; who has none left waits.
 */
export class FramedStream implements MessageStream {
  readonly peer: NodeId;
  readonly #stream: Stream;
  readonly #reader = new FrameReader(MESSAGE_BYTES_MAX + 1);
  readonly #inbox = new Channel<Uint8Array>(STREAM_CREDIT_MESSAGES);
  readonly #broken = new AbortController();
  readonly #writers: Writer[] = [];
  readonly #onDone: () => void;
  /** The first word of the other end: what the stream is for, or that it is accepted. */
  readonly #firstWord = Promise.withResolvers<string>();
  /** Messages that may still be sent. */
  #credit = STREAM_CREDIT_MESSAGES;
  /** Messages that the peer may still send, and those read of which it has not been told. */
  #granted = STREAM_CREDIT_MESSAGES;
  #consumed = 0;
  #inboxBytes = 0;
  #isPaused = false;
  /** The peer has closed its direction while this end was behind. */
  #isRemoteClosed = false;
  #hasEnded = false;
  #isDone = false;

  /** `onDone` is called once, when both directions have ended or the stream is broken. */
  constructor(stream: Stream, peer: NodeId, onDone: () => void) {
    this.#stream = stream;
    this.peer = peer;
    this.#onDone = onDone;
    creditInBulk(stream);
    // Nobody may be waiting for it any more.
    this.#firstWord.promise.catch(() => {});
    stream.addEventListener("close", () => this.#break("the connection is gone"));
    stream.addEventListener("remoteCloseWrite", () => this.#remoteClosed());
    stream.addEventListener("message", ({ data }) => this.#hear(data.subarray()));
  }

  get aborted(): AbortSignal {
    return this.#broken.signal;
  }

  /** Says what the stream is for. @throws {AppError} when the other end does not take it. */
  async open(protocol: string): Promise<void> {
    this.#write(FRAME.open, new TextEncoder().encode(protocol));
    await this.#firstWord.promise;
  }

  /** What the stream is for, as the other end says. @throws {AppError} when it says nothing. */
  async opened(): Promise<string> {
    return await this.#firstWord.promise;
  }

  /** Takes it for what it is. */
  accept(): void {
    this.#write(FRAME.accept);
  }

  async send(message: Uint8Array): Promise<void> {
    if (message.length > MESSAGE_BYTES_MAX) {
      throw new AppError(
        "payload_too_large",
        `Cannot send ${message.length} bytes to a stream to ${this.peer}: ${MESSAGE_BYTES_MAX} at most`,
      );
    }
    if (this.#isDone || this.#hasEnded) throw this.#ended();
    if (this.#credit > 0 && this.#writers.length === 0) this.#send(message);
    else await this.#waitForCredit(message);
    await this.#drained();
  }

  end(): void {
    if (this.#isDone || this.#hasEnded) return;
    this.#write(FRAME.end);
    this.#hasEnded = true;
    for (const { failed } of this.#writers.splice(0)) failed(this.#ended());
    this.#settle();
  }

  abort(reason: string): void {
    if (this.#isDone) return;
    this.#break(reason);
    this.#stream.abort(new Error(reason));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const message of this.#inbox) {
      this.#taken(message);
      yield message;
    }
  }

  #hear(bytes: Uint8Array): void {
    try {
      for (const one of this.#reader.push(bytes)) this.#take(one);
    } catch (cause) {
      this.abort(cause instanceof Error ? cause.message : String(cause));
    }
  }

  #take(frame: Uint8Array): void {
    const [kind] = frame;
    if (kind === FRAME.message) return this.#received(frame.subarray(1));
    if (kind === FRAME.accept) return this.#firstWord.resolve("");
    if (kind === FRAME.open && frame.length <= 1 + NAME_BYTES_MAX) {
      return this.#firstWord.resolve(new TextDecoder().decode(frame.subarray(1)));
    }
    if (kind === FRAME.end && frame.length === 1) return this.#remoteEnded();
    if (kind === FRAME.credit && frame.length === 5) {
      return this.#credited(new DataView(frame.buffer, frame.byteOffset).getUint32(1, true));
    }
    throw new AppError(
      "invalid_request",
      "Cannot read a frame of a stream: it is of no known kind",
    );
  }

  #received(message: Uint8Array): void {
    if (this.#granted === 0 || this.#inbox.ended) {
      const found = this.#granted === 0 ? "the peer has no credit left" : "the peer has ended";
      throw new AppError("invalid_request", `Cannot take a message: ${found}`);
    }
    this.#granted--;
    this.#inboxBytes += message.length;
    this.#inbox.offer(message);
    if (this.#isPaused || this.#inboxBytes <= INBOX_BYTES_MAX) return;
    this.#isPaused = true;
    this.#stream.pause();
  }

  /** The reader has taken a message: its room is given back, at once when the writer waits. */
  #taken(message: Uint8Array): void {
    this.#inboxBytes -= message.length;
    this.#consumed++;
    if (this.#isDone) return;
    if (this.#isPaused && this.#inboxBytes <= INBOX_BYTES_MAX) {
      this.#isPaused = false;
      // What was read last may have been all that there was.
      if (this.#stream.readStatus === "paused") this.#stream.resume();
      if (this.#isRemoteClosed) this.#remoteClosed();
      if (this.#isDone) return;
    }
    if (this.#consumed < CREDIT_BATCH && this.#granted > 0) return;
    const count = new Uint8Array(4);
    new DataView(count.buffer).setUint32(0, this.#consumed, true);
    this.#granted += this.#consumed;
    this.#consumed = 0;
    this.#write(FRAME.credit, count);
  }

  #credited(count: number): void {
    this.#credit += count;
    if (this.#credit > STREAM_CREDIT_MESSAGES) {
      throw new AppError("invalid_request", "Cannot take credit for more than was sent");
    }
    while (this.#credit > 0) {
      const writer = this.#writers.shift();
      if (!writer) return;
      this.#send(writer.message);
      writer.done();
    }
  }

  /** Its end may be among what has come, and waits to be read. */
  #remoteClosed(): void {
    if (this.#inbox.ended) return;
    if (this.#isPaused) this.#isRemoteClosed = true;
    else this.abort("the peer has closed it without an end");
  }

  #remoteEnded(): void {
    this.#inbox.end();
    this.#settle();
  }

  #waitForCredit(message: Uint8Array): Promise<void> {
    return new Promise((done, failed) => this.#writers.push({ message, done, failed }));
  }

  #send(message: Uint8Array): void {
    this.#credit--;
    this.#write(FRAME.message, message);
  }

  #write(kind: number, bytes?: Uint8Array): void {
    try {
      for (const part of frame(kind, bytes)) this.#stream.send(part);
    } catch {
      this.#break("the connection is gone");
    }
  }

  /** Waits while the connection cannot take more. */
  async #drained(): Promise<void> {
    if (this.#isDone) throw this.#ended();
    if (!this.#stream.writableNeedsDrain) return;
    try {
      await this.#stream.onDrain({ signal: this.#broken.signal });
    } catch {
      throw this.#ended();
    }
  }

  /** Both directions have ended: nothing is left to break. */
  #settle(): void {
    if (!this.#hasEnded || !this.#inbox.ended || this.#isDone) return;
    this.#finish();
    const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
    this.#stream.close({ signal }).catch((cause) => this.#stream.abort(cause));
  }

  #break(reason: string): void {
    if (this.#isDone) return;
    this.#inbox.clear();
    this.#finish();
    this.#broken.abort(reason);
    this.#firstWord.reject(this.#ended());
    for (const { failed } of this.#writers.splice(0)) failed(this.#ended());
  }

  #finish(): void {
    this.#isDone = true;
    this.#onDone();
  }

  #ended(): AppError {
    return new AppError("node_unreachable", `Cannot send to ${this.peer}: the stream has ended`);
  }
}

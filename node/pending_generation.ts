import { type Chunk, isTerminal } from "../core/chunk.ts";
import { AppError, type ErrorInfo } from "../core/errors.ts";
import type { InstanceId } from "../core/ids.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import { Channel } from "../net/channel.ts";

/** Chunks that may wait for a slow client before its runner's stream is held back. */
const PENDING_CHUNKS_MAX = 256;

/** How long a worker's own last word may take before a general one is given in its place. */
const LAST_WORD_MS = 1_000;

/**
 * How long a client may wait until a runner has accepted or refused its request (design, streamed
 * answers), whatever happens meanwhile: a change of the master, or a second try.
 */
export const ACCEPT_TIMEOUT_MS = 10_000;

/** One generation of a client of this node, from the command to the last chunk. */
export class PendingGeneration {
  readonly payload: TextGenerationPayload;
  /** Where the task runs, once it is in the state. */
  #instanceId: InstanceId | undefined;
  readonly #assigned = Promise.withResolvers<void>();
  #isSpokenFor = false;
  readonly #channel = new Channel<Chunk>(PENDING_CHUNKS_MAX);
  readonly #reader = this.#channel[Symbol.asyncIterator]();
  readonly #abandon = new AbortController();
  #ended = false;
  #lastWord: ReturnType<typeof setTimeout> | undefined;

  constructor(payload: TextGenerationPayload) {
    this.payload = payload;
  }

  get instanceId(): InstanceId | undefined {
    return this.#instanceId;
  }

  /** The master's answer: this instance serves it. */
  assign(instanceId: InstanceId | undefined): void {
    this.#instanceId = instanceId;
    this.#assigned.resolve();
  }

  /** The instance that serves it, as soon as that is known; undefined when it is over before. */
  async assigned(): Promise<InstanceId | undefined> {
    await this.#assigned.promise;
    return this.#ended || this.#abandon.signal.aborted ? undefined : this.#instanceId;
  }

  /** True for the first that asks: only one worker answers. */
  claim(): boolean {
    if (this.#isSpokenFor) return false;
    // Whoever comes was out of reach for a moment only.
    clearTimeout(this.#lastWord);
    this.#lastWord = undefined;
    this.#isSpokenFor = true;
    return true;
  }

  /** Whether the last chunk has come. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Takes a chunk; waits while the client is behind. */
  async push(chunk: Chunk): Promise<void> {
    if (this.#ended) return;
    if (isTerminal(chunk)) this.#end();
    await this.#channel.push(chunk);
    if (isTerminal(chunk)) this.#channel.end();
  }

  /** Ends it with an error, unless it has ended. */
  fail(error: ErrorInfo): void {
    if (this.#ended) return;
    this.#end();
    this.#channel.offer({ type: "Error", error });
    this.#channel.end();
  }

  /** Ends it with an error unless the worker does so itself within a moment, or nobody listens. */
  failSoon(error: ErrorInfo): void {
    const isAbandoned = this.#abandon.signal.aborted;
    if (this.#ended || isAbandoned || this.#lastWord !== undefined) return;
    this.#lastWord = setTimeout(() => this.fail(error), LAST_WORD_MS);
  }

  /** The client is gone. */
  abandon(): void {
    clearTimeout(this.#lastWord);
    this.#channel.clear();
    this.#abandon.abort();
    this.#assigned.resolve();
  }

  onAbandon(listener: () => void): void {
    this.#abandon.signal.addEventListener("abort", listener);
    if (this.#abandon.signal.aborted) listener();
  }

  /**
   * The number of prompt tokens, once the runner has accepted; `timeoutMs` is what is left of
   * `ACCEPT_TIMEOUT_MS`.
   * @throws {AppError} the runner's refusal, `timed_out`, or `cancelled`.
   */
  async accepted(timeoutMs: number): Promise<number> {
    const message = `No runner accepted the request within ${ACCEPT_TIMEOUT_MS / 1000} s`;
    const timer = setTimeout(() => this.fail({ code: "timed_out", message }), timeoutMs);
    try {
      const { value: chunk, done } = await this.#reader.next();
      if (done) throw new AppError("cancelled", "The request was cancelled by its client");
      if (chunk.type === "Error") throw AppError.from(chunk.error);
      if (chunk.type === "Accepted") return chunk.promptTokens;
      throw new AppError("internal", `Expected Accepted from the runner, found ${chunk.type}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The chunks after Accepted. */
  chunks(): AsyncGenerator<Chunk> {
    return this.#reader;
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#lastWord);
  }
}

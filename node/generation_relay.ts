import type { Chunk } from "../core/chunk.ts";
import { isTerminal } from "../core/chunk.ts";
import { AppError, type ErrorInfo } from "../core/errors.ts";
import type { NodeId, TaskId } from "../core/ids.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import { Channel } from "../net/channel.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../net/topics.ts";
import type { MessageStream, Transport } from "../net/transport.ts";

/** Chunks that may wait for a slow API node before its task is given up. */
export const RELAY_CHUNKS_MAX = 8_192;

/** How long the API node may take to hand over a prompt. */
export const PAYLOAD_TIMEOUT_MS = 10_000;

/** How often the API node is tried: a connection may just have broken, or not be there yet. */
export const OPEN_TRIES_MAX = 3;

/** Wait before it is tried again. */
export const OPEN_RETRY_MS = 500;

/** Carries one generation's chunks to the API node that asked for it (design D3). */
export class GenerationRelay {
  readonly #stream: MessageStream;
  readonly #chunks = new Channel<Chunk>(RELAY_CHUNKS_MAX);
  #terminated = false;
  #isBroken = false;
  #broken: () => void = () => {};

  private constructor(stream: MessageStream) {
    this.#stream = stream;
    stream.aborted.addEventListener("abort", () => this.#break());
    if (stream.aborted.aborted) this.#break();
    void this.#pump();
  }

  /**
   * Opens the stream and fetches the prompt.
   * @throws {AppError} when the API node is gone, has forgotten the task or is too slow.
   */
  static async open(
    transport: Pick<Transport, "openStream">,
    apiNodeId: NodeId,
    taskId: TaskId,
  ): Promise<{ relay: GenerationRelay; payload: TextGenerationPayload }> {
    const stream = await opened(transport, apiNodeId);
    const late = setTimeout(() => stream.abort("the prompt took too long"), PAYLOAD_TIMEOUT_MS);
    try {
      await stream.send(encodeMessage({ taskId }));
      const { value, done } = await stream[Symbol.asyncIterator]().next();
      if (done) {
        throw new AppError("cancelled", `Cannot fetch the prompt of ${taskId}: it is gone`);
      }
      const payload = decodeMessage(GENERATION.payload, value);
      return { relay: new GenerationRelay(stream), payload };
    } catch (cause) {
      stream.abort("the prompt could not be fetched");
      throw cause;
    } finally {
      clearTimeout(late);
    }
  }

  /** Calls `listener` once the API node has broken the stream, or is gone, before the last word. */
  onBroken(listener: () => void): void {
    if (this.#isBroken) listener();
    else this.#broken = listener;
  }

  /** Queues a chunk; false when the reader is too far behind and the task should end. */
  push(chunk: Chunk): boolean {
    if (this.#terminated) return true;
    if (this.#chunks.size >= RELAY_CHUNKS_MAX) {
      this.#terminated = true;
      this.#chunks.endWith({ type: "Error", error: tooSlow() });
      return false;
    }
    this.#chunks.offer(chunk);
    if (isTerminal(chunk)) this.close();
    return true;
  }

  /** Ends the generation with an error, unless it has ended already. */
  fail(error: ErrorInfo): void {
    this.push({ type: "Error", error });
  }

  /** No more chunks; what waits is still sent. */
  close(): void {
    this.#terminated = true;
    this.#chunks.end();
  }

  async #pump(): Promise<void> {
    try {
      for await (const chunk of this.#chunks) await this.#stream.send(encodeMessage(chunk));
      this.#stream.end();
    } catch {
      this.#break();
    }
  }

  /** Nobody reads any more: the client is gone, its node is, or the way there. */
  #break(): void {
    this.#chunks.clear();
    if (this.#terminated || this.#isBroken) return;
    this.#isBroken = true;
    this.#broken();
  }
}

async function opened(
  transport: Pick<Transport, "openStream">,
  apiNodeId: NodeId,
): Promise<MessageStream> {
  for (let tries = 1;; tries++) {
    try {
      return await transport.openStream(apiNodeId, GENERATION.protocol);
    } catch (cause) {
      if (tries >= OPEN_TRIES_MAX) throw cause;
      await new Promise((resolve) => setTimeout(resolve, OPEN_RETRY_MS));
    }
  }
}

function tooSlow(): ErrorInfo {
  const message = `The client is ${RELAY_CHUNKS_MAX} chunks behind, at most as many wait for it`;
  return { code: "client_too_slow", message, hint: "read the stream as it comes" };
}

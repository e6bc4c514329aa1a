import assert from "node:assert/strict";
import type { Chunk, TokenLogprobs } from "../../core/chunk.ts";
import { TaskId } from "../../core/ids.ts";
import type { PrefillEnd, PrefillRates, PrefillRequest } from "../../core/prefill.ts";
import { RING_BYTES_MIN } from "../../core/ring.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { EngineResponse, TaskResponse } from "../../engines/engine.ts";
import type { TextEngine } from "../../engines/text_engine.ts";

/** What one request was sent, and what it cost where. */
export interface Answer {
  readonly ids: readonly number[];
  readonly text: string;
  /** Of its tokens, where they were asked for. */
  readonly logprobs: readonly TokenLogprobs[];
  readonly progress: readonly (readonly [processed: number, total: number])[];
  readonly finish: Extract<Chunk, { type: "Finish" }>;
  /** What was asked of the other engine, and how that ended. */
  readonly request: PrefillRequest | undefined;
  readonly end: PrefillEnd | undefined;
  /** Bytes that went from one to the other. */
  readonly bytes: number;
}

/** What happens to the bytes between the two engines. */
export interface Wire {
  /** Called before each news of bytes; an end breaks the connection. */
  readonly onNews?: (bytes: number) => PrefillEnd | undefined;
  /** Changes what is asked for. */
  readonly asking?: (request: PrefillRequest) => PrefillRequest;
  /** Hears what the engine that prefills has for others. */
  readonly beside?: (response: TaskResponse) => void;
  /** Hears why the engine that prefills has died, which is told as its node would; else that throws. */
  readonly onDeath?: (cause: unknown) => void;
}

/** A generation of `decode` whose prompt `prefill` may read, over a ring file and no network. */
export class PrefillPair {
  readonly #dir = Deno.makeTempDirSync();
  #transfers = 0;

  constructor(readonly decode: TextEngine, readonly prefill: TextEngine) {}

  answer(payload: TextGenerationPayload, wire: Wire = {}, rates: PrefillRates = {}): Answer {
    const n = this.#transfers++;
    const [taskId, transferId] = [`task-${n}`, `transfer-${n}`].map((id) => TaskId.parse(id));
    assert(taskId && transferId);
    const exchange = new Exchange(this, { taskId, transferId, wire, path: `${this.#dir}/${n}` });
    this.decode.submit({ taskId, payload, prefill: rates });
    return exchange.run();
  }

  [Symbol.dispose](): void {
    this.decode.close();
    this.prefill.close();
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

interface ExchangeOptions {
  readonly taskId: TaskId;
  readonly transferId: TaskId;
  readonly wire: Wire;
  readonly path: string;
}

class Exchange {
  readonly #chunks: Chunk[] = [];
  #request: PrefillRequest | undefined;
  #end: PrefillEnd | undefined;
  #bytes = 0;
  #isOver = false;
  #isDead = false;

  constructor(readonly pair: PrefillPair, readonly options: ExchangeOptions) {}

  run(): Answer {
    const { decode, prefill } = this.pair;
    for (let idle = 0; !this.#isOver;) {
      idle = decode.hasWork() || (!this.#isDead && prefill.hasWork()) ? 0 : idle + 1;
      assert.ok(idle < 2, "both engines wait for each other");
      for (const response of steps(decode)) this.#ofDecode(response);
      for (const response of this.#steps(prefill)) this.#ofPrefill(response);
    }
    // What goes on without an asker.
    while (!this.#isDead && prefill.hasWork()) {
      for (const response of this.#steps(prefill)) this.#ofPrefill(response);
    }
    const tokens = this.#chunks.flatMap((chunk) => chunk.type === "Token" ? [chunk] : []);
    const finish = this.#chunks.find((chunk) => chunk.type === "Finish");
    assert(finish?.type === "Finish", JSON.stringify(this.#chunks.at(-1)));
    return {
      ids: tokens.map(({ tokenId }) => tokenId),
      text: tokens.map(({ text }) => text).join(""),
      logprobs: tokens.flatMap(({ logprobs }) => logprobs ?? []),
      progress: this.#chunks.flatMap((chunk) =>
        chunk.type === "PrefillProgress"
          ? [[chunk.processedTokens, chunk.totalTokens] as const]
          : []
      ),
      finish,
      request: this.#request,
      end: this.#end,
      bytes: this.#bytes,
    };
  }

  /** Of the engine that prefills, until it dies. */
  #steps(prefill: TextEngine): TaskResponse[] {
    const { wire: { onDeath }, taskId } = this.options;
    if (this.#isDead) return [];
    try {
      return steps(prefill);
    } catch (cause) {
      if (!onDeath) throw cause;
      onDeath(cause);
      this.#isDead = true;
      const error = { code: "node_unreachable" as const, message: "gone" };
      this.pair.decode.prefills?.flow(taskId, { bytes: 0, end: { error } });
      return [];
    }
  }

  #ofDecode([taskId, response]: TaskResponse): void {
    assert.equal(taskId, this.options.taskId);
    if (response.type === "chunk") this.#chunks.push(response.chunk);
    if (response.type === "prefillWanted") return this.#ask(response.request);
    if (response.type === "prefillFlow") return this.#taken(response);
    if (response.type === "finished") this.#isOver = true;
  }

  #ask(request: PrefillRequest): void {
    const { wire: { asking = (same) => same }, transferId, path, taskId } = this.options;
    this.#request = request;
    try {
      const ring = { path, bytes: RING_BYTES_MIN };
      this.pair.prefill.prefills?.serve({ taskId: transferId, request: asking(request), ring });
    } catch (cause) {
      const error = { code: "invalid_request" as const, message: String(cause) };
      this.pair.decode.prefills?.flow(taskId, { bytes: 0, end: { error } });
    }
  }

  #taken({ bytes, end }: Extract<EngineResponse, { type: "prefillFlow" }>): void {
    this.#end ??= end;
    this.pair.prefill.prefills?.flow(this.options.transferId, { bytes, end });
  }

  #ofPrefill([id, response]: TaskResponse): void {
    const { taskId, path, wire, transferId } = this.options;
    if (id !== transferId) return wire.beside?.([id, response]);
    if (response.type !== "prefillFlow") return;
    const { bytes, end } = response;
    this.#bytes = Math.max(this.#bytes, bytes);
    const broken = wire.onNews?.(bytes);
    const ring = { path, bytes: RING_BYTES_MIN };
    this.pair.decode.prefills?.flow(taskId, { bytes, ring, end: broken ?? end });
    if (broken) this.pair.prefill.prefills?.flow(transferId, { bytes: 0, end: broken });
  }
}

function steps(engine: TextEngine): TaskResponse[] {
  return engine.hasWork() ? [...engine.step()] : [];
}

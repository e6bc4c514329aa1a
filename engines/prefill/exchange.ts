import { AppError } from "../../core/errors.ts";
import type { TaskId } from "../../core/ids.ts";
import type { KvFingerprint, PrefillRates } from "../../core/prefill.ts";
import type { RemotePrefillMode } from "../../core/prefill_choice.ts";
import type { GenerationTask, PrefillService, PrefillTask, TaskResponse } from "../engine.ts";
import type { GenerationRequest } from "../text/generation.ts";
import { requireKnownTokens, requireRoom } from "../text/prompt_limits.ts";
import type { Run } from "../text/run.ts";
import type { KvBytes } from "./kv_bytes.ts";
import { type RemotePrefillParts, RemotePrefills } from "./remote_prefills.ts";
import { PREFILL_CLIENT, ServedPrefills } from "./served_prefills.ts";

/** How an engine shares the reading of prompts with others. */
export interface PrefillSettings {
  /** Tells whether others have the same model. */
  readonly weights: string;
  /** When prompts are read elsewhere; absent: `auto`. */
  readonly mode?: RemotePrefillMode | undefined;
}

/** The requests of an engine. */
export interface PrefillQueue {
  /** @throws {AppError} `queue_full` where a client's request would find no place. */
  requirePlace(client: string): void;
  /** Takes a request, which waits for its turn. */
  enter(task: GenerationTask, request: GenerationRequest): void;
  /** One that was taken already goes on here. */
  wait(run: Run): void;
  /** Ends one with an error, if it is there still. */
  fail(taskId: TaskId, error: AppError): TaskResponse[];
  cancel(taskId: TaskId): void;
}

/** What an exchange is made of. */
export type PrefillExchangeParts = Omit<RemotePrefillParts, "kv" | "fingerprint" | "mode"> & {
  readonly settings: PrefillSettings | undefined;
  /** Undefined where the decoder's keys and values cannot travel. */
  readonly kv: KvBytes | undefined;
  readonly contextTokens: number;
  readonly vocabSize: number;
  readonly queue: PrefillQueue;
};

/**
 * The reading of prompts that an engine shares with others, in both directions; in neither where
 * keys and values cannot travel.
 */
export class PrefillExchange implements Disposable {
  readonly #parts: PrefillExchangeParts;
  readonly #remote: RemotePrefills | undefined;
  readonly #served: ServedPrefills | undefined;

  constructor(parts: PrefillExchangeParts) {
    this.#parts = parts;
    const { settings, kv } = parts;
    if (!settings || !kv) return;
    const fingerprint: KvFingerprint = { weights: settings.weights, ...kv.shape };
    const { mode = "auto" } = settings;
    this.#remote = new RemotePrefills({ ...parts, kv, fingerprint, mode });
    this.#served = new ServedPrefills({ kv, fingerprint });
  }

  /** Undefined where there is no such exchange. */
  get service(): PrefillService | undefined {
    const { tokensPerSecond, queue } = this.#parts;
    const [remote, served] = [this.#remote, this.#served];
    if (!remote || !served) return undefined;
    return {
      tokensPerSecond: tokensPerSecond(),
      serve: (task) => this.#serve(task, served),
      flow: (taskId, flow) => {
        const isServed = served.has(taskId);
        (isServed ? served : remote).flow(taskId, flow);
        if (isServed && flow.end) queue.cancel(taskId);
      },
    };
  }

  #serve(task: PrefillTask, served: ServedPrefills): void {
    const { contextTokens, vocabSize, queue } = this.#parts;
    const { request: { tokenIds, stopPos }, taskId } = task;
    requireRoom(stopPos, contextTokens);
    requireKnownTokens(tokenIds, vocabSize);
    queue.requirePlace(PREFILL_CLIENT);
    const payload = {
      ...{ messages: [], sampling: {}, stop: [], seed: "0" },
      client: PREFILL_CLIENT,
    };
    queue.enter({ taskId, payload }, served.open(task));
  }

  /** Requests that wait for another instance, and for nothing that this engine could do. */
  get idleCount(): number {
    return this.#remote?.idleCount ?? 0;
  }

  /** Whether there is anything to send, or to wait for so that it can be sent. */
  get hasWork(): boolean {
    return this.#served?.hasWork ?? false;
  }

  /** Whether a request is a prompt of another instance. */
  serves(taskId: TaskId): boolean {
    return this.#served?.has(taskId) ?? false;
  }

  /** Whether the prompt is read elsewhere: the request is not for the scheduler until that is over. */
  begin(run: Run, rates: PrefillRates): boolean {
    return this.#remote?.begin(run, rates) ?? false;
  }

  /** Asks others, and takes in what has come of it. */
  take(): TaskResponse[] {
    return this.#remote?.pump((run) => this.#parts.queue.wait(run)) ?? [];
  }

  /** Sends what is there. */
  give(): TaskResponse[] {
    const { queue } = this.#parts;
    return this.#served?.pump((taskId, error) => queue.fail(taskId, error)) ?? [];
  }

  /** Where other ranks have a part in it: waits for them, `ms` at most. */
  wait(ms: number): void {
    if (!this.#served?.wait(ms)) this.#remote?.wait(ms);
  }

  /** Passes on what a request has computed by now; true once that is all of a prompt of another's. */
  note(run: Run): boolean {
    return this.#served?.note(run) ?? false;
  }

  /** Whether a request that failed was a prompt of another instance, which hears why. */
  hasFailed({ taskId }: Run, error: AppError): boolean {
    return this.#served?.fail(taskId, error) ?? false;
  }

  /** A request is cancelled, and what goes on for it in either direction. */
  drop(run: Run): TaskResponse[] {
    this.#served?.drop(run.taskId);
    return this.#remote?.drop(run) ?? [];
  }

  /**
   * Lets go of memory: prompts that others read go on here, or, if there are none, those go on
   * elsewhere whose keys and values wait to be sent. Undefined: there was nothing to let go of.
   */
  release(): TaskResponse[] | undefined {
    if (this.#remote?.release()) return [];
    const error = new AppError("out_of_memory", "The memory is needed for others");
    const given = this.#served?.release(error) ?? [];
    const told = given.flatMap((taskId) => this.#parts.queue.fail(taskId, error));
    return told.length > 0 ? told : undefined;
  }

  [Symbol.dispose](): void {
    this.#remote?.[Symbol.dispose]();
    this.#served?.[Symbol.dispose]();
  }
}

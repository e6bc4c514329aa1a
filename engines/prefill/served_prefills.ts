import { AppError, toAppError } from "../../core/errors.ts";
import type { TaskId } from "../../core/ids.ts";
import { differenceOf, type KvFingerprint, type PrefillRequest } from "../../core/prefill.ts";
import { resolveSampling } from "../../core/sampling.ts";
import type { PrefillTask, TaskResponse } from "../engine.ts";
import type { GenerationRequest } from "../text/generation.ts";
import type { Run } from "../text/run.ts";
import { BytesUnderWay } from "./bytes_under_way.ts";
import type { KvBytes } from "./kv_bytes.ts";
import { PrefillOutbox } from "./outbox.ts";
import type { PrefillFlow } from "./remote_prefills.ts";

/** Prompts that an engine reads for others at once, those that are still being sent included. */
export const SERVED_PREFILLS_MAX = 8;

/** Who prompts of other instances are read for: together they get a client's share of the time. */
export const PREFILL_CLIENT = "exo-prefill";

/** What prompts of other instances are served with. */
export interface ServedPrefillParts {
  readonly kv: KvBytes;
  readonly fingerprint: KvFingerprint;
}

/** Prompts that this engine reads for others: each is a request of the scheduler like any other. */
export class ServedPrefills implements Disposable {
  readonly #parts: ServedPrefillParts;
  readonly #underWay = new BytesUnderWay();
  readonly #outboxes = new Map<TaskId, { outbox: PrefillOutbox; stopPos: number }>();

  constructor(parts: ServedPrefillParts) {
    this.#parts = parts;
  }

  /** Whether `pump` would do anything. */
  get hasWork(): boolean {
    return [...this.#outboxes.values()].some(({ outbox }) => outbox.hasWork);
  }

  has(taskId: TaskId): boolean {
    return this.#outboxes.has(taskId);
  }

  /**
   * Opens the way out for a prompt; what the scheduler is to run for it.
   * @throws {AppError} `queue_full`, or `invalid_request` with what is wrong.
   */
  open({ taskId, request, ring }: PrefillTask): GenerationRequest {
    this.#require(request);
    const { tokenIds, startPos, stopPos } = request;
    const outbox = new PrefillOutbox({
      ...this.#parts,
      underWay: this.#underWay,
      ring,
      startPos,
      stopPos,
    });
    this.#outboxes.set(taskId, { outbox, stopPos });
    return {
      // One token behind, so that the scheduler never takes what is wanted for an answer.
      promptIds: tokenIds.slice(0, stopPos + 1),
      ...{ maxTokens: 1, seed: 0n, stop: [], eosIds: new Set<number>() },
      sampling: resolveSampling({ temperature: 0 }),
    };
  }

  /** Passes on what a request has computed by now; true once that is all. */
  note({ taskId, generation: { cache, computedPositions } }: Run): boolean {
    const served = this.#outboxes.get(taskId);
    if (!served || !cache) return false;
    // The cache itself may be further: other ranks have yet to compute what was launched since. What
    // it began with may be under way for another request: reads go behind those steps, or fail too.
    served.outbox.add(computedPositions, (index) => cache.share(index));
    return computedPositions >= served.stopPos;
  }

  /** Whether it was one of these that failed. */
  fail(taskId: TaskId, error: AppError): boolean {
    this.#outboxes.get(taskId)?.outbox.fail(error.toInfo());
    return this.#outboxes.has(taskId);
  }

  /** Gives those up that hold keys and values which wait to be sent. */
  release(error: AppError): TaskId[] {
    return [...this.#outboxes].flatMap(([taskId, { outbox }]) => {
      return outbox.giveUp(error.toInfo()) ? [taskId] : [];
    });
  }

  /** News of who takes the bytes. */
  flow(taskId: TaskId, { bytes, end }: PrefillFlow): void {
    this.#outboxes.get(taskId)?.outbox.taken(bytes);
    if (end) this.drop(taskId);
  }

  /** Nobody takes them any more. */
  drop(taskId: TaskId): void {
    this.#outboxes.get(taskId)?.outbox[Symbol.dispose]();
    this.#outboxes.delete(taskId);
  }

  /** Waits for bytes that other ranks have, `ms` at most; false when there are none to wait for. */
  wait(ms: number): boolean {
    return [...this.#outboxes.values()].some(({ outbox }) => outbox.wait(ms));
  }

  /** Writes what there is room for; a prompt whose bytes cannot be had ends with `failed`. */
  pump(failed: (taskId: TaskId, error: AppError) => TaskResponse[]): TaskResponse[] {
    return [...this.#outboxes].flatMap(([taskId, { outbox }]) => {
      try {
        return this.#pump(taskId, outbox);
      } catch (cause) {
        const error = toAppError(cause);
        if (error.code === "group_broken") throw error;
        outbox.giveUp(error.toInfo());
        return [...failed(taskId, error), ...this.#lastWord(taskId, outbox)];
      }
    });
  }

  /** A ring that takes nothing, as on a full disk, takes no last word either: the node is told. */
  #lastWord(taskId: TaskId, outbox: PrefillOutbox): TaskResponse[] {
    try {
      return this.#pump(taskId, outbox);
    } catch (cause) {
      this.drop(taskId);
      const end = { error: toAppError(cause, "storage_failed").toInfo() };
      return [[taskId, { type: "prefillFlow", bytes: 0, end }]];
    }
  }

  #pump(taskId: TaskId, outbox: PrefillOutbox): TaskResponse[] {
    const news = outbox.pump();
    if (outbox.isDone) this.drop(taskId);
    return news ? [[taskId, { type: "prefillFlow", ...news }]] : [];
  }

  [Symbol.dispose](): void {
    for (const taskId of [...this.#outboxes.keys()]) this.drop(taskId);
  }

  #require({ fingerprint, startPos, stopPos, tokenIds }: PrefillRequest): void {
    const waiting = this.#outboxes.size;
    if (waiting >= SERVED_PREFILLS_MAX) {
      throw new AppError(
        "queue_full",
        `Cannot prefill for another instance: ${waiting} prompts are under way, ` +
          `at most ${SERVED_PREFILLS_MAX} may be`,
        { hint: "link more instances that prefill: exo meta-instance" },
      );
    }
    const difference = differenceOf(this.#parts.fingerprint, fingerprint);
    if (difference) {
      throw refused(
        `its model is another: ${difference}`,
        "link instances of the same model files",
      );
    }
    const { blockPositions } = this.#parts.kv.shape;
    const isWhole = startPos % blockPositions === 0 && stopPos % blockPositions === 0;
    if (isWhole && startPos < stopPos && stopPos < tokenIds.length) return;
    const found = `positions ${startPos} to ${stopPos} of ${tokenIds.length} tokens are asked for`;
    const needed = `whole blocks of ${blockPositions} and a token behind them needed`;
    throw refused(`${found}, ${needed}`, "run the same version of exo on both nodes");
  }
}

function refused(found: string, hint: string): AppError {
  const message = `Cannot prefill for another instance: ${found}`;
  return new AppError("invalid_request", message, { hint });
}

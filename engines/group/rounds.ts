import { AppError, assert, toAppError } from "../../core/errors.ts";
import type { Group } from "../group.ts";
import { CacheLog } from "./cache_log.ts";
import {
  decodeFrame,
  encodeHeader,
  notUnderstood,
  type OutcomeHeader,
  type StepHeader,
} from "./step_frame.ts";

/** Longest that a step takes on its way through all ranks: paced, it is some hundred milliseconds. */
export const ROUND_MS_MAX = 120_000;

/** How long one look for what has come may wait; then the limit is looked at. */
export const LOOK_MS = 1_000;

/** What came back of a frame. */
export interface Outcome {
  readonly header: OutcomeHeader;
  readonly rows: Float32Array<ArrayBuffer>;
}

/** What a frame is about, beside what became of caches. */
export type Sent = Pick<StepHeader, "inputs" | "weights" | "kv" | "move">;

/** Who sends frames, and by which clock. */
export interface RoundsOptions {
  /** Of the first rank. */
  readonly group: Group;
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
}

/**
 * The frames that the first rank sends round, each with what became of caches before it. They come
 * back in the order in which they went, as outcomes, which are kept until they are asked for.
 */
export class Rounds {
  readonly log: CacheLog;
  readonly now: () => number;
  readonly #group: Group;
  /** Frames that were sent, and those of them that came back. */
  #sent = 0;
  #returned = 0;
  readonly #outcomes = new Map<number, Outcome>();
  /** Those whose outcomes nobody asks for. */
  readonly #dropped = new Set<number>();
  /** Blocks that the rank with the least memory could hold, as of the last outcome. */
  blocksMax = Infinity;
  /** How all ranks keep keys and values, once they have said so; undefined while they differ. */
  kv: string | undefined;

  constructor({ group, now }: RoundsOptions) {
    this.#group = group;
    this.now = now;
    this.log = new CacheLog(() => this.#flushIfPossible());
  }

  /** Frames that are on their way. */
  get underWay(): number {
    return this.#sent - this.#returned;
  }

  /** Whether a frame has come back. */
  isBack(serial: number): boolean {
    return serial < this.#returned;
  }

  /** Sends a frame, whose number is what its outcome is asked by. */
  send(about: Sent, body?: Uint8Array): number {
    this.#post({ ...about, returns: true }, body);
    return this.#sent++;
  }

  /** Sends what became of caches, if anything did; nothing comes back. */
  flush(): void {
    if (!this.log.isEmpty) this.#post({ inputs: [], returns: false });
  }

  /** Where it is full while everything is freed. What broke the group is thrown by the next step. */
  #flushIfPossible(): void {
    try {
      this.flush();
    } catch (error) {
      if (toAppError(error).code !== "group_broken") throw error;
    }
  }

  #post(about: Sent & Pick<StepHeader, "returns">, body?: Uint8Array): void {
    const operations = this.log.take();
    const header = { serial: this.#sent, operations, blocksMax: null, ...about };
    this.#group.send(encodeHeader({ type: "step", ...header }), body);
  }

  /** Whether a frame that was sent at `sentAt` is back; waits for it `ms` at most. */
  wait(serial: number, ms: number, { sentAt, msMax }: { sentAt: number; msMax: number }): boolean {
    while (!this.isBack(serial) && this.receive(0));
    if (!this.isBack(serial) && ms > 0) this.receive(ms);
    if (this.isBack(serial)) return true;
    const tookMs = this.now() - sentAt;
    if (tookMs > msMax) throw tooLong(tookMs);
    return false;
  }

  /** What came back; it is not there any more then. */
  take(serial: number): Outcome {
    const outcome = this.#outcomes.get(serial);
    assert(outcome, "a frame's outcome is taken once, when it has come back");
    this.#outcomes.delete(serial);
    return outcome;
  }

  /** Nobody asks for the outcome of this one. */
  drop(serial: number): void {
    if (!this.#outcomes.delete(serial) && !this.isBack(serial)) this.#dropped.add(serial);
  }

  /** Takes what comes next, within `ms`; whether anything did. */
  receive(ms: number): boolean {
    const bytes = this.#group.receive(ms);
    if (!bytes) return false;
    const from = this.#group.names[this.#group.size - 1] ?? "?";
    const { header, rows } = decodeFrame(bytes, from);
    if (header.type !== "outcome" || header.serial !== this.#returned) {
      throw notUnderstood(from, `the ${header.type} of step ${header.serial}`);
    }
    if (this.#returned >= this.#sent) throw notUnderstood(from, "what nobody asked for");
    this.#returned++;
    this.blocksMax = header.blocksMax ?? Infinity;
    this.kv = header.kv ?? this.kv;
    const isDropped = this.#dropped.delete(header.serial);
    if (!isDropped) this.#outcomes.set(header.serial, { header, rows });
    return true;
  }
}

function tooLong(ms: number): AppError {
  const found = `Cannot go on with the answers: a step is on its way through the ranks for ` +
    `${Math.round(ms / 1_000)} s, at most ${ROUND_MS_MAX / 1_000} s possible`;
  return new AppError("group_broken", found, { hint: "look what else the nodes do" });
}

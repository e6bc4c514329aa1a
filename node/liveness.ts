import { type ProcessState, processState, type ReadProcess } from "./process_state.ts";

/** How often a silent process that has work is looked at; three looks decide. */
export const LIVENESS_MS = 2_000;

/** After so many times the usual wait this node itself stood still: what it sees proves nothing. */
const LATE_LOOK = 2;

/** What a {@linkcode Liveness} works with. */
export interface LivenessOptions {
  readonly pid: () => number | undefined;
  readonly onDead: (reason: string) => void;
  /** Whether it has kept an answer back for so long that it hangs, unless it waits for others. */
  readonly owes?: () => boolean;
  readonly everyMs?: number | undefined;
  readonly readProcess?: ReadProcess | undefined;
  /** Milliseconds of a clock that nobody sets. */
  readonly uptime?: () => number;
}

/**
 * Tells within seconds that a silent process will not speak again: it is stopped, or it sleeps
 * without having computed anything, although it has work. A slow process computes, and is left to
 * the longer limits; so is one that waits for another, whose own node knows what it does. Nothing
 * is told where the system says nothing of processes.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #everyMs: number;
  readonly #uptime: () => number;
  #timer: ReturnType<typeof setInterval> | undefined;
  #before: ProcessState | undefined;
  #lookedAt = 0;
  #hasSpoken = false;
  #mustCompute = false;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#everyMs = options.everyMs ?? LIVENESS_MS;
    this.#uptime = options.uptime ?? (() => performance.now());
  }

  /**
   * Something is expected of the process from now on. `mustCompute`: it waits for nobody else, so
   * that sleep means that it hangs.
   */
  watch(mustCompute?: boolean): void {
    this.#mustCompute = mustCompute ?? this.#mustCompute;
    if (this.#timer !== undefined) return;
    this.#lookedAt = this.#uptime();
    this.#timer = setInterval(() => this.#look(), this.#everyMs);
  }

  /** The process has said something. */
  sign(): void {
    this.#hasSpoken = true;
  }

  /** Nothing is expected any more. */
  rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#before = undefined;
  }

  #look(): void {
    const { pid, onDead, readProcess = processState } = this.#options;
    const [at, id] = [this.#uptime(), pid()];
    const isLate = at - this.#lookedAt > LATE_LOOK * this.#everyMs;
    this.#lookedAt = at;
    const now = id === undefined ? undefined : readProcess(id);
    const before = this.#hasSpoken || isLate ? undefined : this.#before;
    this.#before = this.#hasSpoken ? undefined : now;
    this.#hasSpoken = false;
    if (!now || isLate) return;
    if (now.isStopped) onDead("it is stopped (SIGSTOP)");
    else if (before && this.#hangs(before, now)) {
      onDead(`it has work and did nothing for ${this.#everyMs / 1000} s`);
    }
  }

  #hangs(before: ProcessState, now: ProcessState): boolean {
    const slept = before.isAsleep && now.isAsleep && before.cpuTicks === now.cpuTicks;
    if (!slept || this.#mustCompute) return slept;
    return before.sleeps === now.sleeps && (this.#options.owes?.() ?? false);
  }
}

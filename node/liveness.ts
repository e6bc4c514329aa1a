import { type ProcessState, processState } from "./process_state.ts";

/** How often a silent process that has work is looked at; three looks decide. */
export const LIVENESS_MS = 2_000;

/**
 * Tells within seconds that a silent process will not speak again: it is stopped, or it sleeps
 * without having computed anything, although it has work. A slow process computes, and is left to
 * the longer limits.
 */
export class Liveness {
  readonly #pid: () => number | undefined;
  readonly #onDead: (reason: string) => void;
  readonly #everyMs: number;
  readonly #owes: () => boolean;
  #timer: ReturnType<typeof setInterval> | undefined;
  #before: ProcessState | undefined;
  #hasSpoken = false;
  #mustCompute = false;

  /** `owes`: whether it has kept an answer back for so long that it must be computing one. */
  constructor(
    pid: () => number | undefined,
    onDead: (reason: string) => void,
    everyMs: number = LIVENESS_MS,
    owes: () => boolean = () => false,
  ) {
    this.#pid = pid;
    this.#onDead = onDead;
    this.#everyMs = everyMs;
    this.#owes = owes;
  }

  /**
   * Something is expected of the process from now on. `mustCompute`: it waits for nobody else, so
   * that sleep means that it hangs.
   */
  watch(mustCompute?: boolean): void {
    this.#mustCompute = mustCompute ?? this.#mustCompute;
    this.#timer ??= setInterval(() => this.#look(), this.#everyMs);
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
    const pid = this.#pid();
    const now = pid === undefined ? undefined : processState(pid);
    if (!now) return;
    const before = this.#hasSpoken ? undefined : this.#before;
    this.#before = this.#hasSpoken ? undefined : now;
    this.#hasSpoken = false;
    const seconds = this.#everyMs / 1000;
    const mustCompute = this.#mustCompute || this.#owes();
    if (now.isStopped) this.#onDead("it is stopped (SIGSTOP)");
    else if (
      mustCompute && now.isAsleep && before?.isAsleep && before.cpuTicks === now.cpuTicks
    ) {
      this.#onDead(`it has work and did nothing for ${seconds} s`);
    }
  }
}

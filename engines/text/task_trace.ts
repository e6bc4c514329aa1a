import { type Span, SPANS_MAX } from "../../core/trace.ts";

/** Of how many decode steps one has a span of its own. */
export const DECODE_STEPS_TRACED = 64;

/** Spans that a task has of its whole queue, prefill and decode. */
const WHOLES = 3;

/** Where spans are placed. */
export interface Tracing {
  readonly rank: number;
  /** What the engine's clock counts from, in milliseconds since 1970. */
  readonly originMs: number;
}

/** A stretch of time on the engine's clock, in milliseconds. */
interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** Where one task's time goes, as its steps tell it; times are milliseconds on the engine's clock. */
export class TaskTrace {
  readonly #tracing: Tracing;
  readonly #submittedAt: number;
  readonly #parts: Span[] = [];
  #prefill: Stretch | undefined;
  #decode: Stretch | undefined;
  #decodeSteps = 0;

  constructor(tracing: Tracing, submittedAt: number) {
    this.#tracing = tracing;
    this.#submittedAt = submittedAt;
  }

  /** A step in which `tokens` of the prompt were computed. */
  prefilled(tokens: number, stretch: Stretch): void {
    // What is read again after a preemption belongs to the decode that it interrupts.
    if (!this.#decode) this.#prefill = joined(this.#prefill, stretch);
    this.#add(`chunk of ${tokens} tokens`, "prefill/chunk", stretch);
  }

  /** A step that went on with the answer. */
  decoded(stretch: Stretch): void {
    this.#decode = joined(this.#decode, stretch);
    this.#decodeSteps++;
    if (this.#decodeSteps % DECODE_STEPS_TRACED !== 0) return;
    this.#add(`step ${this.#decodeSteps}`, "decode/step", stretch);
  }

  /** All spans, by start; a task that ends in the queue waited until `endedAt`. */
  spans(endedAt: number): Span[] {
    const [prefill, decode] = [this.#prefill, this.#decode];
    const begunAt = (prefill ?? decode)?.from ?? endedAt;
    const spans = [
      this.#span("queue", "queue", { from: this.#submittedAt, to: begunAt }),
      ...prefill ? [this.#span("prefill", "prefill", prefill)] : [],
      ...decode ? [this.#span("decode", "decode", decode)] : [],
      ...this.#parts,
    ];
    // The whole before its parts, where both start at once.
    return spans.sort((a, b) => a.startUs - b.startUs || b.durationUs - a.durationUs);
  }

  #add(name: string, category: string, stretch: Stretch): void {
    if (this.#parts.length < SPANS_MAX - WHOLES) {
      this.#parts.push(this.#span(name, category, stretch));
    }
  }

  #span(name: string, category: string, { from, to }: Stretch): Span {
    const { rank, originMs } = this.#tracing;
    const startUs = Math.round((originMs + from) * 1000);
    // Both ends are rounded alike, so that what follows another begins where that ends.
    const durationUs = Math.max(0, Math.round((originMs + to) * 1000) - startUs);
    return { name, startUs, durationUs, rank, category };
  }
}

function joined(whole: Stretch | undefined, part: Stretch): Stretch {
  return { from: whole?.from ?? part.from, to: part.to };
}

/** What the fuzzer of one part of the network has done and found. */
export interface FuzzedPart {
  /** Mutated messages that were said. */
  readonly said: number;
  /** Among them: those that were messages all the same, said by who has no business to. */
  readonly wellFormed: number;
  /** How many of them on each topic, and by each protocol. */
  readonly saidOn: ReadonlyMap<string, number>;
  /** Mutations that were not said, and do not count: they may be heeded, which is no finding. */
  readonly leftOut: number;
  readonly findings: readonly string[];
}

/** Further findings are counted, not kept. */
const FINDINGS_MAX = 20;

/** Counts for one part; a finding names the seed and the message that replay it. */
export class Fuzzing {
  leftOut = 0;
  #said = 0;
  #wellFormed = 0;
  readonly #saidOn = new Map<string, number>();
  readonly #findings: string[] = [];
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  get said(): number {
    return this.#said;
  }

  /** A mutated message has gone, on this topic or by this protocol. */
  say(topic: string, isWellFormed: boolean): void {
    this.#said++;
    this.#saidOn.set(topic, (this.#saidOn.get(topic) ?? 0) + 1);
    if (isWellFormed) this.#wellFormed++;
  }

  found(what: string): void {
    if (this.#findings.length >= FINDINGS_MAX) return;
    this.#findings.push(`seed ${this.#seed}, message ${this.#said}: ${what}`);
  }

  /** What ought to be as it was before, as text. */
  compare(what: string, before: string, now: string): void {
    if (now !== before) this.found(`${what}: ${before} became ${now}`);
  }

  part(): FuzzedPart {
    return {
      said: this.#said,
      wellFormed: this.#wellFormed,
      saidOn: this.#saidOn,
      leftOut: this.leftOut,
      findings: this.#findings,
    };
  }
}

/** The start of a message, for people. */
export function quoted(bytes: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(bytes.subarray(0, 400)));
}

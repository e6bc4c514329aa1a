/** What the fuzzer of one part of the network has done and found. */
export interface FuzzedPart {
  /** Mutated messages that were said. */
  readonly said: number;
  /** Among them: those that were messages all the same, said by who has no business to. */
  readonly wellFormed: number;
  readonly findings: readonly string[];
}

/** Further findings are counted, not kept. */
const FINDINGS_MAX = 20;

/** Counts for one part; a finding names the seed and the message that replay it. */
export class Fuzzing {
  #said = 0;
  #wellFormed = 0;
  readonly #findings: string[] = [];
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  get said(): number {
    return this.#said;
  }

  say(isWellFormed: boolean): void {
    this.#said++;
    if (isWellFormed) this.#wellFormed++;
  }

  found(what: string): void {
    if (this.#findings.length >= FINDINGS_MAX) return;
    this.#findings.push(`seed ${this.#seed}, message ${this.#said}: ${what}`);
  }

  part(): FuzzedPart {
    return { said: this.#said, wellFormed: this.#wellFormed, findings: this.#findings };
  }
}

/** The start of a message, for people. */
export function quoted(bytes: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(bytes.subarray(0, 400)));
}

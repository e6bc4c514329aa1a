import type { Millis } from "../core/units.ts";

/** Time and randomness, injected so that everything else can be replayed. */
export interface Clock {
  now(): Millis;
  /** Milliseconds since some moment before this process: a clock that nobody sets. */
  uptime(): Millis;
  /** A fresh id: UUID version 4. */
  newId(): string;
  /** 64 random bits as decimal digits. */
  newSeed(): string;
}

/** The only reader of the machine's time and randomness. */
export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  uptime: () => Math.floor(performance.now()),
  newId: () => crypto.randomUUID(),
  newSeed: () => crypto.getRandomValues(new BigUint64Array(1)).join(""),
};

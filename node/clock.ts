import type { Millis } from "../core/units.ts";

/** Time and randomness, injected so that everything else can be replayed. */
export interface Clock {
  /** The date, which people and time servers set. */
  now(): Millis;
  /** A clock that nobody sets; only differences mean something. */
  uptime(): Millis;
  /** A fresh id: UUID version 4. */
  newId(): string;
  /** From 0 up to, not including, 1. */
  random(): number;
  /** 64 random bits as decimal digits. */
  newSeed(): string;
}

/** The only reader of the machine's time and randomness. */
export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  uptime: () => Math.trunc(performance.now()),
  newId: () => crypto.randomUUID(),
  random: () => Math.random(),
  newSeed: () => crypto.getRandomValues(new BigUint64Array(1)).join(""),
};

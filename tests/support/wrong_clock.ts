import { type Clock, SYSTEM_CLOCK } from "../../node/clock.ts";

/** The machine's clock, set wrongly by `offsetMs`. */
export class WrongClock implements Clock {
  offsetMs = 0;
  readonly uptime = SYSTEM_CLOCK.uptime;
  readonly newId = SYSTEM_CLOCK.newId;
  readonly newSeed = SYSTEM_CLOCK.newSeed;
  readonly random = SYSTEM_CLOCK.random;

  now(): number {
    return SYSTEM_CLOCK.now() + this.offsetMs;
  }
}

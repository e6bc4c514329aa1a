import type { NodeId } from "../core/ids.ts";
import { LINK_SILENCE_MS } from "./transport.ts";

/** Calls things later; tests put virtual time in its place. */
export interface Timer {
  /** Calls `action` after so long, unless the returned function is called before. */
  after(delayMs: number, action: () => void): () => void;
}

/** Real time. */
export const SYSTEM_TIMER: Timer = {
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};

/** How messages travel in a `MemoryNetwork`. */
export interface MemoryNetworkOptions {
  /** The same seed, the same delays and losses. */
  readonly seed?: number | undefined;
  /** Least and most time of a message on its way, one way; absent: none. */
  readonly latencyMs?: readonly [number, number] | undefined;
  /** How many messages of topics are lost, 0 to 1. Streams and requests lose nothing. */
  readonly lossRatio?: number | undefined;
  /** How long it takes until a cut is noticed; 0: both ends know at once. */
  readonly silenceMs?: number | undefined;
  readonly timer?: Timer | undefined;
  /** What a node's address is called; one with an IP address is a place for ranks to meet. */
  readonly addressOf?: ((peer: NodeId) => string) | undefined;
}

/** What all wires of a network have in common. */
export class Weather {
  readonly timer: Timer;
  readonly silenceMs: number;
  readonly #latencyMs: readonly [number, number];
  readonly #lossRatio: number;
  readonly #random: () => number;

  constructor(options: MemoryNetworkOptions) {
    const { seed = 1, latencyMs = [0, 0], lossRatio = 0 } = options;
    this.timer = options.timer ?? SYSTEM_TIMER;
    this.silenceMs = options.silenceMs ?? LINK_SILENCE_MS;
    this.#latencyMs = latencyMs;
    this.#lossRatio = lossRatio;
    this.#random = randomOf(seed);
  }

  /** Whether messages take no time at all. */
  get isStill(): boolean {
    return this.#latencyMs[1] === 0;
  }

  /** One round trip as it is on average; undefined where messages take no time. */
  get rttMs(): number | undefined {
    const [least, most] = this.#latencyMs;
    return this.isStill ? undefined : least + most;
  }

  /** How long the next message takes. */
  delayMs(): number {
    const [least, most] = this.#latencyMs;
    return this.isStill ? 0 : least + Math.round(this.#random() * (most - least));
  }

  /** Whether the next message of a topic is lost. */
  loses(): boolean {
    return this.#lossRatio > 0 && this.#random() < this.#lossRatio;
  }
}

/**
 * The connection of two nodes, or of a node with itself. What is said on it arrives, late or at
 * once, until it breaks; while it is cut and nobody has noticed, what arrives is held back.
 */
export class Wire {
  readonly #weather: Weather;
  readonly #breakers = new Set<(reason: string) => void>();
  #held: (() => void)[] = [];
  #cutOver: (() => void) | undefined;
  #isBroken = false;

  constructor(weather: Weather) {
    this.#weather = weather;
  }

  get rttMs(): number | undefined {
    return this.#weather.rttMs;
  }

  get timer(): Timer {
    return this.#weather.timer;
  }

  /** Whether a message is there as soon as it is sent. */
  get isInstant(): boolean {
    return this.#weather.isStill && !this.#isCut && !this.#isBroken;
  }

  /** Calls `arrive` once a message is there: never, when the wire breaks before. */
  carry(arrive: () => void): void {
    const delayMs = this.#weather.delayMs();
    if (delayMs === 0) queueMicrotask(() => this.#deliver(arrive));
    else this.timer.after(delayMs, () => this.#deliver(arrive));
  }

  /** The same for what may be lost on its way. */
  carryLossy(arrive: () => void): void {
    if (!this.#weather.loses()) this.carry(arrive);
  }

  /** Calls `broken` when the wire breaks, unless the returned function is called before. */
  onBreak(broken: (reason: string) => void): () => void {
    this.#breakers.add(broken);
    return () => this.#breakers.delete(broken);
  }

  /** Nothing gets through any more; `noticed` is called unless it is mended soon. */
  cut(noticed: () => void): void {
    if (this.#isCut || this.#isBroken) return;
    const { silenceMs } = this.#weather;
    if (silenceMs === 0) noticed();
    else this.#cutOver = this.timer.after(silenceMs, noticed);
  }

  /** What was held back arrives after all. */
  mend(): void {
    this.#cutOver?.();
    this.#cutOver = undefined;
    for (const arrive of this.#held.splice(0)) arrive();
  }

  /** For good: requests fail, streams break, and nothing arrives any more. */
  break(reason: string): void {
    this.#isBroken = true;
    this.#cutOver?.();
    this.#held = [];
    for (const broken of [...this.#breakers]) broken(reason);
    this.#breakers.clear();
  }

  get #isCut(): boolean {
    return this.#cutOver !== undefined;
  }

  #deliver(arrive: () => void): void {
    if (this.#isBroken) return;
    if (this.#isCut) this.#held.push(arrive);
    else arrive();
  }
}

/** Numbers from 0 to 1 that look random and are the same for a seed. Source: mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

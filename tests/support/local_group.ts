import { AppError, assert } from "../../core/errors.ts";
import type { Group } from "../../engines/group.ts";

/** What a rank does when it is its turn; whether it did anything. */
type Turn = () => boolean;

/**
 * The ranks of a group in one thread: while the first waits for a frame, the others take their turns
 * until one comes. When none of them has anything to do, that is a deadlock, and throws.
 */
export class LocalRing {
  readonly groups: readonly LocalGroup[];
  readonly #turns = new Map<number, Turn>();
  /** Frames on their way, by the rank that they go to. */
  readonly #frames: Uint8Array<ArrayBuffer>[][];
  readonly #arrivals: (() => void)[] = [];
  #broken: string | undefined;

  /**
   * `mayPass`: asked when a rank looks without waiting, whether another has come further by then, and
   * when one waits, whether its time is over although nothing has come. Absent: neither.
   */
  constructor(size: number, readonly mayPass: () => boolean = () => false) {
    this.#frames = Array.from({ length: size }, () => []);
    const names = Array.from({ length: size }, (_, rank) => `node-${rank}`);
    this.groups = names.map((_, rank) => new LocalGroup(this, rank, names));
  }

  /** The rank's part of the work. */
  follow(rank: number, turn: Turn): void {
    this.#turns.set(rank, turn);
  }

  /** From now on, all that ranks do over the ring fails. */
  breakBy(rank: number): void {
    this.#broken = `Rank ${rank} on "node-${rank}" has closed the connection`;
    for (const wake of this.#arrivals.splice(0)) wake();
  }

  /** Frames that wait for a rank. */
  waiting(rank: number): number {
    return this.#frames[rank]?.length ?? 0;
  }

  send(to: number, frame: Uint8Array<ArrayBuffer>): void {
    this.#requireWhole();
    this.#frames[to]?.push(frame);
    for (const wake of this.#arrivals.splice(0)) wake();
  }

  receive(rank: number, ms: number): Uint8Array<ArrayBuffer> | undefined {
    this.#requireWhole();
    const frames = this.#frames[rank];
    assert(frames, "a rank of the group");
    // Those that follow take what has come: others move when their turn is over.
    if (rank > 0) return frames.shift();
    if (ms === 0 && this.mayPass()) this.moveOne();
    while (ms > 0 && frames.length === 0) {
      if (!this.moveOne()) throw new Error(`Deadlock: rank ${rank} waits, and no other can move`);
      if (this.mayPass()) break;
    }
    return frames.shift();
  }

  /** Lets the first take its turn that has a frame; whether there was one. */
  moveOne(): boolean {
    for (const [rank, turn] of this.#turns) {
      if (this.waiting(rank) === 0) continue;
      if (turn()) return true;
    }
    return false;
  }

  arrival(rank: number): Promise<void> {
    if (this.#broken !== undefined || this.waiting(rank) > 0) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#arrivals.push(resolve);
    return promise;
  }

  #requireWhole(): void {
    if (this.#broken !== undefined) throw new AppError("group_broken", this.#broken);
  }
}

/** One rank of a {@linkcode LocalRing}. */
export class LocalGroup implements Group {
  readonly #ring: LocalRing;
  readonly rank: number;
  readonly names: readonly string[];

  constructor(ring: LocalRing, rank: number, names: readonly string[]) {
    this.#ring = ring;
    this.rank = rank;
    this.names = names;
  }

  get size(): number {
    return this.names.length;
  }

  send(header: Uint8Array, body: Uint8Array = new Uint8Array(0)): void {
    const frame = new Uint8Array(header.length + body.length);
    frame.set(header);
    frame.set(body, header.length);
    this.#ring.send((this.rank + 1) % this.size, frame);
  }

  receive(ms: number): Uint8Array<ArrayBuffer> | undefined {
    return this.#ring.receive(this.rank, ms);
  }

  sum(): never {
    throw new Error("ranks of one thread are those of pipelines, which sum nothing");
  }

  arrival(): Promise<void> {
    return this.#ring.arrival(this.rank);
  }

  [Symbol.dispose](): void {
    this.#ring.breakBy(this.rank);
  }
}

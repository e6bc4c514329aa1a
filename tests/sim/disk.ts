import { apply } from "../../core/apply.ts";
import { type IndexedEvent, isDurable } from "../../core/events.ts";
import type { Epoch } from "../../core/lineage.ts";
import { compareEpochs } from "../../core/lineage.ts";
import { decodeState, EMPTY_STATE, encodeState, type State } from "../../core/state.ts";

/** Events on disk before they are folded into the snapshot. */
const TAIL_EVENTS_MAX = 300;

/** What a node finds when it starts. */
export interface Stored {
  readonly state: State;
  readonly epoch: Epoch | undefined;
  readonly branch: State | undefined;
}

/** A node's disk: snapshot, events since, branch; what is not synced yet can be lost. */
export class Disk {
  #snapshot: State = EMPTY_STATE;
  #epoch: Epoch | undefined;
  #tail: IndexedEvent[] = [];
  /** Events of the tail that would survive a loss of power. */
  #synced = 0;
  #branch: State | undefined;
  /** Counts the starts of the node's process. */
  incarnation = 0;
  /** Counts the processes of its runners. */
  runnerIncarnation = 0;

  persist(events: readonly IndexedEvent[]): void {
    this.#tail.push(...events);
    // Syncing a file syncs all that was written to it before.
    if (events.some(({ event }) => isDurable(event))) this.#synced = this.#tail.length;
    if (this.#tail.length > TAIL_EVENTS_MAX) this.#compact();
  }

  install(state: State, epoch: Epoch): void {
    this.#snapshot = state;
    this.#tail = [];
    this.#synced = 0;
    this.#see(epoch);
  }

  keepBranch(branch: State | undefined): void {
    this.#branch = branch;
  }

  /** The power goes: the last `count` events that were not synced are lost; how many were. */
  losePower(count: number): number {
    const kept = Math.max(this.#synced, this.#tail.length - count);
    const lost = this.#tail.length - kept;
    this.#tail.length = kept;
    return lost;
  }

  get unsynced(): number {
    return this.#tail.length - this.#synced;
  }

  get branch(): State | undefined {
    return this.#branch;
  }

  /** The log folded, as far as it is on disk. */
  fold(): State {
    return this.#tail.reduce(apply, this.#snapshot);
  }

  /** What a process reads when it starts, by way of JSON as on a real disk. */
  load(): Stored {
    const state = decodeState(encodeState(this.fold()));
    const branch = this.#branch && decodeState(encodeState(this.#branch));
    const newest = this.#tail.at(-1)?.epoch;
    if (newest) this.#see(newest);
    return { state, epoch: this.#epoch, branch };
  }

  #see(epoch: Epoch): void {
    if (!this.#epoch || compareEpochs(epoch, this.#epoch) > 0) this.#epoch = epoch;
  }

  #compact(): void {
    this.#snapshot = this.fold();
    for (const { epoch } of this.#tail.slice(-1)) this.#see(epoch);
    this.#tail = [];
    this.#synced = 0;
  }
}

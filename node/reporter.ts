import type { Event } from "../core/events.ts";
import { isSettled, type LocalFacts, NO_FACTS, pruned, subjectOf } from "../core/facts.ts";
import type { NodeId, TaskId } from "../core/ids.ts";
import type { Replica } from "./replica.ts";

/** Keeps what this node has to report, until the state has it or it is of the past. */
export class Reporter {
  readonly #nodeId: NodeId;
  readonly #replica: Replica;
  readonly #tell: (facts: LocalFacts) => void;
  #facts: LocalFacts = NO_FACTS;
  #waiting: { readonly event: Event; readonly done: () => void }[] = [];
  #stopped = false;
  readonly #unsubscribe: () => void;

  /** `tell` hears of all facts after each change of them. */
  constructor(nodeId: NodeId, replica: Replica, tell: (facts: LocalFacts) => void) {
    this.#nodeId = nodeId;
    this.#replica = replica;
    this.#tell = tell;
    this.#unsubscribe = replica.onChange(() => this.#settle());
  }

  /** Resolves when the event is in the state or says nothing new, or this node stops. */
  report(event: Event): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((done) => {
      this.#waiting.push({ event, done });
      const reports = new Map(this.#facts.reports).set(subjectOf(event), event);
      this.#change({ ...this.#facts, reports });
      // What says nothing new changes no state, and is settled all the same.
      this.#settle();
    });
  }

  /** What was reported about a subject (`core/facts.ts`) does not hold any more. */
  retract(subject: string): void {
    const reports = new Map(this.#facts.reports);
    if (reports.delete(subject)) this.#change({ ...this.#facts, reports });
  }

  /** Whether a node can be talked to; of nodes that have left nothing is kept. */
  reach(peer: NodeId, isReached: boolean): void {
    const { lostNodes: before } = this.#facts;
    if (before.has(peer) !== isReached) return;
    const { nodes } = this.#replica.state;
    const lostNodes = new Set([...before].filter((nodeId) => nodes.has(nodeId)));
    if (isReached) lostNodes.delete(peer);
    else lostNodes.add(peer);
    this.#change({ ...this.#facts, lostNodes });
  }

  /** A client of this node waits for the task: from before it is asked for until it is forgotten. */
  followTask(taskId: TaskId): void {
    const followedTasks = new Set(this.#facts.followedTasks).add(taskId);
    this.#change({ ...this.#facts, followedTasks });
  }

  /** Nobody here waits for the task any more: what the state still has of it goes. */
  forgetTask(taskId: TaskId): void {
    const followedTasks = new Set(this.#facts.followedTasks);
    if (followedTasks.delete(taskId)) this.#change({ ...this.#facts, followedTasks });
  }

  stop(): void {
    this.#stopped = true;
    this.#unsubscribe();
    for (const { done } of this.#waiting.splice(0)) done();
  }

  #settle(): void {
    const { state } = this.#replica;
    const isDone = ({ event }: { event: Event }) => isSettled(state, this.#nodeId, event);
    const done = this.#waiting.filter(isDone);
    if (done.length > 0) {
      this.#waiting = this.#waiting.filter((one) => !done.includes(one));
      this.#facts = pruned(this.#facts, state, this.#nodeId);
    }
    for (const { done: resolve } of done) resolve();
  }

  #change(facts: LocalFacts): void {
    this.#facts = facts;
    this.#tell(facts);
  }
}

/**
 * What must happen sometimes: each kind of fault and each interesting outcome has a counter. A
 * simulation that never loses a master has tested nothing; a full run fails while one is at 0.
 */
export const MARKS = [
  // Faults.
  "fault: message dropped",
  "fault: message duplicated",
  "fault: message reordered",
  "fault: link delayed",
  "fault: link one-way",
  "fault: partition",
  "fault: partition healed",
  "fault: node killed",
  "fault: node stopped",
  "fault: node lost power",
  "fault: unsynced events lost",
  "fault: crash between two outputs",
  "fault: node restarted with its disk",
  "fault: node wiped",
  "fault: disk slow",
  "fault: disk full",
  "fault: clock jumped forward",
  "fault: clock jumped back",
  "fault: runner crashed",
  "fault: port taken",
  "fault: address gone",
  "fault: model never loads",
  "fault: model loads slowly",
  "fault: download failed",
  "fault: card lookup slow",
  "fault: card lookup failed",
  "fault: client gone",
  // Elections and the log.
  "master: elected",
  "master: stepped down",
  "master: two at once",
  "master: replaced with a generation in flight",
  "sync: tail sent",
  "sync: snapshot installed",
  "sync: gap repaired",
  "sync: events out of order",
  "sync: epoch seen stale",
  "branch: kept",
  "branch: kept over a restart",
  "branch: merged",
  "branch: nothing to bring",
  "branch: creation merged",
  "branch: deletion merged",
  // Commands.
  "command: accepted",
  "command: rejected",
  "command: forwarded to the master",
  "command: refused, stale epoch",
  "command: refused, the master changed",
  "command: timed out",
  "command: answered with its node alone",
  // Instances and wishes.
  "instance: ready on one node",
  "instance: ready on several nodes",
  "instance: ready over RDMA",
  "instance: retried with backoff",
  "instance: retried at other addresses",
  "instance: lost a way and placed anew",
  "instance: retried without a way",
  "instance: retries reset",
  "instance: given up",
  "instance: lost its node and placed anew",
  "instance: unbound and its node is away",
  "instance: unbound and its node came back",
  "meta: ready",
  "meta: placement failed",
  "meta: parked",
  "meta: re-armed by the user",
  "meta: re-armed by the topology",
  "meta: card resolved",
  "meta: deleted with its instance",
  "node: timed out",
  "node: left",
  "node: restarted under its id",
  // Generations.
  "generation: complete",
  "generation: over several nodes",
  "generation: cancelled",
  "generation: failed with its runner",
  "generation: failed with its node",
  "generation: refused",
  "generation: reaped after its node crashed",
  // Single mishaps in a cluster that is well.
  "calm: a node did not hear the master",
  "calm: a follower was restarted",
  "calm: the master was killed",
  // Ends of a run.
  "end: every meta-instance ready",
  "end: a meta-instance parked",
  "end: a meta-instance without a place",
] as const;
export type Mark = (typeof MARKS)[number];

/** How often each thing happened. */
export class Marks {
  readonly counts = new Map<Mark, number>(MARKS.map((name) => [name, 0]));

  hit(name: Mark, times = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + times);
  }

  add(other: Iterable<readonly [Mark, number]>): void {
    for (const [name, count] of other) this.hit(name, count);
  }

  missing(): Mark[] {
    return MARKS.filter((name) => this.counts.get(name) === 0);
  }

  /** One line for each, as `     12  fault: node killed`. */
  toString(): string {
    return [...this.counts].map(([name, count]) => `${String(count).padStart(9)}  ${name}`)
      .join("\n");
  }
}

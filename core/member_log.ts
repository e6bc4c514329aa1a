/** The log of a member: how its state changes, and what becomes of a history that gave way. */
import { apply } from "./apply.ts";
import { lineageMerged } from "./apply_merge.ts";
import type { Event, IndexedEvent } from "./events.ts";
import { CommandId } from "./ids.ts";
import { compareEpochs, type Epoch, isInHistory, openSegment, type Stamp } from "./lineage.ts";
import { headOf, tailAt, withEvent } from "./log_tail.ts";
import { freshId, type Member, type Turn, update } from "./member_state.ts";
import { branchOf, decideMerge } from "./merge.ts";
import type { State } from "./state.ts";

/** Applies an event that has its place already. */
export function applyIndexed(turn: Turn, indexed: IndexedEvent): void {
  const { state, tail } = turn.member;
  update(turn, { state: apply(state, indexed), tail: withEvent(tail, indexed) });
  turn.fresh.push(indexed);
}

/** Gives an event its index in the member's own epoch: the only place where a master does so. */
export function append(turn: Turn, epoch: Epoch, event: Event): void {
  applyIndexed(turn, { idx: turn.member.state.lastEventAppliedIdx + 1, epoch, event });
}

/** Whether a state has the event at `stamp`. */
export function hasStamp({ lineage, lastEventAppliedIdx }: State, stamp: Stamp): boolean {
  if (!isInHistory(lineage, stamp)) return false;
  const open = openSegment(lineage)?.epoch;
  return !open || compareEpochs(open, stamp.epoch) !== 0 || stamp.idx <= lastEventAppliedIdx;
}

/** The newer of two epochs, as far as there are any. */
export function newerEpoch<T extends Epoch | undefined>(
  a: Epoch | undefined,
  b: T,
): Epoch | T {
  if (!a || !b) return a ?? b;
  return compareEpochs(a, b) > 0 ? a : b;
}

/** Goes on from another state; a history that it does not know is kept until it is merged. */
export function install(turn: Turn, state: State, epoch: Epoch): void {
  const { member } = turn;
  const { epoch: own, idx } = headOf(member.state);
  if (own && !hasStamp(state, { epoch: own, idx })) keepBranch(turn);
  turn.disk.push({ type: "Install", state, epoch: newerEpoch(member.epoch, epoch) });
  turn.previous = headOf(state);
  update(turn, { state, tail: tailAt(state) });
}

/** Keeps the state that gives way, with what an earlier one left behind. */
function keepBranch(turn: Turn): void {
  const { state, branch } = turn.member;
  const kept = branch ? withEarlierBranch(turn, state, branch) : state;
  turn.disk.push({ type: "KeepBranch", branch: kept });
  update(turn, { branch: kept });
}

/** One branch of two: the earlier is merged into the later, as a master would merge it. */
function withEarlierBranch(turn: Turn, state: State, earlier: State): State {
  const brought = branchOf(earlier, state);
  if (!brought) return state;
  const commandId = CommandId.parse(freshId(turn));
  try {
    const { events } = decideMerge(state, { type: "MergeLineage", commandId, ...brought });
    return (events as Parameters<typeof lineageMerged>[1][]).reduce(lineageMerged, state);
  } catch {
    return state; // It could never be merged.
  }
}

/** What the branch still has to bring; lets go of a branch of which everything is known. */
export function dueBranch(turn: Turn): ReturnType<typeof branchOf> {
  const { branch, state } = turn.member;
  if (!branch) return undefined;
  const due = branchOf(branch, state);
  if (due) return due;
  // Only after the event that merged it is on the disk.
  turn.said.push({ type: "KeepBranch", branch: undefined });
  update(turn, { branch: undefined });
  return undefined;
}

/** Whether the member's state is of the epoch that it follows or leads. */
export function isSynced({ state, epoch }: Member): boolean {
  return epoch !== undefined && isOfEpoch(state, epoch);
}

/** Whether the newest event of a state is of this epoch. */
export function isOfEpoch({ lineage }: State, epoch: Epoch): boolean {
  const own = openSegment(lineage)?.epoch;
  return own !== undefined && compareEpochs(own, epoch) === 0;
}

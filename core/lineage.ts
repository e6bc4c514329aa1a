import { z } from "zod";
import { NodeId } from "./ids.ts";

/** The reign of a master: the highest (clock, nodeId) wins (D15). */
export const Epoch = z.object({ clock: z.number().int().min(0), nodeId: NodeId });
export type Epoch = z.infer<typeof Epoch>;

const idx = z.number().int().min(0);

/** A place in the history of the cluster: each (epoch, index) has one author and one event. */
export const Stamp = z.object({ epoch: Epoch, idx });
export type Stamp = z.infer<typeof Stamp>;

/** What one epoch contributed: events [firstIdx, lastIdx]; the last is open while it reigns. */
export const LineageSegment = z.object({ epoch: Epoch, firstIdx: idx, lastIdx: idx.optional() });
export type LineageSegment = z.infer<typeof LineageSegment>;

/** A segment that has ended. */
export const ClosedSegment = LineageSegment.required();
export type ClosedSegment = z.infer<typeof ClosedSegment>;

/** Segments that a state remembers; older ones are taken to be everybody's. */
export const LINEAGE_SEGMENTS_MAX = 1_024;

/**
 * Of which epochs a state is made, with the branches that were merged into it. Two nodes whose
 * histories parted find out by it what the other has never heard of, and what it has deleted.
 */
export const Lineage = z.object({
  segments: z.array(LineageSegment),
  /** Epochs up to this clock are forgotten, and count as known. */
  forgottenClock: z.number().int().min(-1),
});
export type Lineage = z.infer<typeof Lineage>;

/** The lineage of a cluster in which nothing has happened. */
export const EMPTY_LINEAGE: Lineage = { segments: [], forgottenClock: -1 };

/** Negative when `a` is the older epoch, 0 when they are the same. */
export function compareEpochs(a: Epoch, b: Epoch): number {
  if (a.clock !== b.clock) return a.clock - b.clock;
  return a.nodeId < b.nodeId ? -1 : a.nodeId > b.nodeId ? 1 : 0;
}

/** Negative when `a` is behind `b`; a head without an epoch has seen nothing. */
export function compareHeads(a: Head, b: Head): number {
  if (a.epoch && b.epoch) return compareEpochs(a.epoch, b.epoch) || a.idx - b.idx;
  return Number(a.epoch !== undefined) - Number(b.epoch !== undefined);
}

/** How far a log goes: the newest event, −1 and no epoch before the first. */
export const Head = z.object({ epoch: Epoch.optional(), idx: z.number().int().min(-1) });
export type Head = z.infer<typeof Head>;

/** The segment that grows; undefined before the first event. */
export function openSegment({ segments }: Lineage): LineageSegment | undefined {
  return segments.findLast(({ lastIdx }) => lastIdx === undefined);
}

/** The lineage once event `idx` of `epoch` is in it. */
export function extend(lineage: Lineage, epoch: Epoch, idx: number): Lineage {
  const open = openSegment(lineage);
  if (open && compareEpochs(open.epoch, epoch) === 0) return lineage;
  const closed = lineage.segments.map((segment) =>
    segment === open ? { ...segment, lastIdx: idx - 1 } : segment
  );
  return trimmed({ ...lineage, segments: [...closed, { epoch, firstIdx: idx }] });
}

/** The lineage with the segments of a branch beside its own. */
export function withBranch(lineage: Lineage, branch: readonly ClosedSegment[]): Lineage {
  return trimmed({ ...lineage, segments: [...lineage.segments, ...branch] });
}

/** The lineage of a history of which `idx` is the last event that anybody has here. */
export function closedAt(lineage: Lineage, idx: number): Lineage & { segments: ClosedSegment[] } {
  const segments = lineage.segments.map((one) => ({ ...one, lastIdx: one.lastIdx ?? idx }));
  return { ...lineage, segments };
}

/** What of these segments is in no segment of `lineage`. */
export function segmentsBeyond(
  segments: readonly ClosedSegment[],
  lineage: Lineage,
): ClosedSegment[] {
  const unknown = segments.filter(({ epoch }) => epoch.clock > lineage.forgottenClock);
  return lineage.segments.reduce(
    (left, known) => left.flatMap((one) => minus(one, known)),
    unknown,
  );
}

/** Of a segment what is before another of its epoch, and what is after it. */
function minus(segment: ClosedSegment, known: LineageSegment): ClosedSegment[] {
  if (compareEpochs(segment.epoch, known.epoch) !== 0) return [segment];
  const before = { ...segment, lastIdx: Math.min(segment.lastIdx, known.firstIdx - 1) };
  const after = {
    ...segment,
    firstIdx: Math.max(segment.firstIdx, (known.lastIdx ?? Infinity) + 1),
  };
  return [before, after].filter(({ firstIdx, lastIdx }) => firstIdx <= lastIdx);
}

/** Whether what happened at `stamp` has happened in this history, too. */
export function isInHistory({ segments, forgottenClock }: Lineage, { epoch, idx }: Stamp): boolean {
  if (epoch.clock <= forgottenClock) return true;
  return segments.some((segment) =>
    compareEpochs(segment.epoch, epoch) === 0 && segment.firstIdx <= idx &&
    idx <= (segment.lastIdx ?? Infinity)
  );
}

/** In the order of epochs, joined where they touch; the oldest go first, their clocks are kept. */
function trimmed({ segments, forgottenClock }: Lineage): Lineage {
  const open = segments.filter(({ lastIdx }) => lastIdx === undefined);
  const closed = joined(segments.filter(isClosed));
  const tooMany = Math.max(0, closed.length + open.length - LINEAGE_SEGMENTS_MAX);
  const clocks = closed.slice(0, tooMany).map(({ epoch }) => epoch.clock);
  return {
    segments: [...closed.slice(tooMany), ...open],
    forgottenClock: Math.max(forgottenClock, ...clocks),
  };
}

function isClosed(segment: LineageSegment): segment is ClosedSegment {
  return segment.lastIdx !== undefined;
}

function joined(segments: readonly ClosedSegment[]): ClosedSegment[] {
  const sorted = segments.toSorted((a, b) =>
    compareEpochs(a.epoch, b.epoch) || a.firstIdx - b.firstIdx
  );
  const result: ClosedSegment[] = [];
  for (const next of sorted) {
    const last = result.at(-1);
    if (last && compareEpochs(last.epoch, next.epoch) === 0 && next.firstIdx <= last.lastIdx + 1) {
      result[result.length - 1] = { ...last, lastIdx: Math.max(last.lastIdx, next.lastIdx) };
    } else result.push(next);
  }
  return result;
}

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

/** Segments that a state remembers; older ones are taken to be everybody's. */
export const LINEAGE_SEGMENTS_MAX = 128;

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
  return segments.find(({ lastIdx }) => lastIdx === undefined);
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
export function withBranch(lineage: Lineage, branch: readonly LineageSegment[]): Lineage {
  const open = openSegment(lineage);
  const closed = lineage.segments.filter((segment) => segment !== open);
  return trimmed({ ...lineage, segments: [...closed, ...branch, ...(open ? [open] : [])] });
}

/** Whether what happened at `stamp` has happened in this history, too. */
export function isInHistory({ segments, forgottenClock }: Lineage, { epoch, idx }: Stamp): boolean {
  if (epoch.clock <= forgottenClock) return true;
  return segments.some((segment) =>
    compareEpochs(segment.epoch, epoch) === 0 && segment.firstIdx <= idx &&
    idx <= (segment.lastIdx ?? Infinity)
  );
}

/** The oldest go first; their clocks are remembered. */
function trimmed({ segments, forgottenClock }: Lineage): Lineage {
  const tooMany = Math.max(0, segments.length - LINEAGE_SEGMENTS_MAX);
  const clocks = segments.slice(0, tooMany).map(({ epoch }) => epoch.clock);
  return {
    segments: segments.slice(tooMany),
    forgottenClock: Math.max(forgottenClock, ...clocks),
  };
}

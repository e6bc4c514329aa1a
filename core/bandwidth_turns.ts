/** When the bandwidth of a link is measured: rarely, one at a time, and not by all nodes at once. */
import type { Millis } from "./units.ts";

/** How long a link goes without a new measurement. */
export const BANDWIDTH_PERIOD_MS = 600_000;

/**
 * After a measurement that failed the next one comes sooner: a link that was busy, or a node that
 * was just starting, is soon as usual. Each further failure doubles the time, up to the period.
 */
export const BANDWIDTH_RETRY_MS = 15_000;

/** Part of the period by which each measurement comes earlier or later. */
const PERIOD_SPREAD = 0.1;

/** A new link is measured within this time: many come at once when a node starts. */
export const BANDWIDTH_FIRST_MS = 10_000;

/** What is known of a link's measurements. Times are of one clock that nobody sets. */
export interface BandwidthTurn {
  readonly key: string;
  /** When the link was first there. */
  readonly since: Millis;
  /** When its last measurement began, or failed; absent: it has had none. */
  readonly measuredAt?: Millis | undefined;
  /** How many measurements have failed since one has succeeded; absent: none. */
  readonly failures?: number | undefined;
  /** From 0 up to, not including, 1: drawn when the link came and at each measurement. */
  readonly jitter: number;
}

/** When the link has to be measured again, or first. */
export function bandwidthDueAt(
  { since, measuredAt, failures = 0, jitter }: BandwidthTurn,
): Millis {
  if (measuredAt === undefined) return since + BANDWIDTH_FIRST_MS * jitter;
  const retryMs = failures === 0 ? Infinity : BANDWIDTH_RETRY_MS * 2 ** (failures - 1);
  const ms = Math.min(BANDWIDTH_PERIOD_MS, retryMs);
  return measuredAt + ms * (1 + PERIOD_SPREAD * (2 * jitter - 1));
}

/** The link whose measurement is most overdue; undefined when none is due. */
export function dueLink(
  turns: Iterable<BandwidthTurn>,
  uptime: Millis,
): BandwidthTurn | undefined {
  let due: BandwidthTurn | undefined;
  for (const turn of turns) {
    const at = bandwidthDueAt(turn);
    if (at <= uptime && (due === undefined || at < bandwidthDueAt(due))) due = turn;
  }
  return due;
}

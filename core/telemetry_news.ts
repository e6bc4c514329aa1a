import { isSame } from "./same.ts";
import type { LinkQuality, NodeDisk, NodeMemory, NodeSystem } from "./telemetry.ts";

/** Share of a whole by which memory or disk has to change to be news. */
export const BYTES_STEP = 0.01;

/** Share by which a link has to get better or worse. */
export const LINK_STEP = 0.2;

/** Less than this is noise of the clocks, however fast the link. */
export const LATENCY_STEP_MS = 0.2;

/** By how much each figure of a machine has to change. */
export const SYSTEM_STEPS: Readonly<Record<keyof NodeSystem, number>> = {
  cpuUsage: 0.05,
  performanceCoreUsage: 0.05,
  efficiencyCoreUsage: 0.05,
  gpuUsage: 0.05,
  cpuTemperatureCelsius: 2,
  gpuTemperatureCelsius: 2,
  powerWatts: 2,
};

/** Whether others should hear of this memory, having heard of that before. */
export function isMemoryNews(told: NodeMemory | undefined, now: NodeMemory): boolean {
  return !told || !isSame(told.loadedRunners, now.loadedRunners) ||
    isSpaceNews(told.ramTotalBytes, now.ramTotalBytes, {
      before: told.ramAvailableBytes,
      after: now.ramAvailableBytes,
    }) ||
    isSpaceNews(told.swapTotalBytes, now.swapTotalBytes, {
      before: told.swapAvailableBytes,
      after: now.swapAvailableBytes,
    }) ||
    isSpaceNews(told.gpu?.totalBytes, now.gpu?.totalBytes, {
      before: told.gpu?.availableBytes,
      after: now.gpu?.availableBytes,
    });
}

/** Whether others should hear of this disk, having heard of that before. */
export function isDiskNews(told: NodeDisk | undefined, now: NodeDisk): boolean {
  return isSpaceNews(told?.totalBytes, now.totalBytes, {
    before: told?.availableBytes,
    after: now.availableBytes,
  });
}

/** Whether others should hear how the machine does, having heard how it did before. */
export function isSystemNews(told: NodeSystem | undefined, now: NodeSystem): boolean {
  const figures = Object.keys(SYSTEM_STEPS) as (keyof NodeSystem)[];
  return !told ||
    figures.some((figure) => hasMoved(told[figure], now[figure], SYSTEM_STEPS[figure]));
}

/** Whether others should hear how good a link is, having heard how good it was. */
export function isLinkNews(told: LinkQuality | undefined, now: LinkQuality): boolean {
  if (!told) return true;
  const latencyStep = Math.max(LATENCY_STEP_MS, LINK_STEP * (told.latencyMs ?? 0));
  const bandwidthStep = LINK_STEP * (told.bandwidthBitsPerSecond ?? 0);
  return hasMoved(told.latencyMs, now.latencyMs, latencyStep) ||
    hasMoved(told.bandwidthBitsPerSecond, now.bandwidthBitsPerSecond, Math.max(1, bandwidthStep));
}

/** Whether the total is another, or a share of it is free that was not, or the reverse. */
function isSpaceNews(
  toldTotal: number | undefined,
  total: number | undefined,
  { before, after }: { before: number | undefined; after: number | undefined },
): boolean {
  return toldTotal !== total || hasMoved(before, after, Math.max(1, BYTES_STEP * (total ?? 0)));
}

/** Whether a figure has changed by `step` at least, has come, or is no longer known. */
function hasMoved(before: number | undefined, after: number | undefined, step: number): boolean {
  if (before === undefined || after === undefined) return before !== after;
  return Math.abs(after - before) >= step;
}

import { z } from "zod";
import { Millis } from "./units.ts";

/** Longest name of a group: all of its processes. */
export const GROUP_ID_LENGTH_MAX = 4_096;

const plain = <T extends string>(type: T) => z.object({ type: z.literal(type) });

/** Where a runner stands: Idle, [Connecting, Connected], Loading, Loaded, WarmingUp, Ready. */
export const RunnerStatus = z.discriminatedUnion("type", [
  plain("RunnerIdle"),
  z.object({
    type: z.literal("RunnerConnecting"),
    /** The group that it meets, by its name: the processes with which alone it can. */
    groupId: z.string().min(1).max(GROUP_ID_LENGTH_MAX).optional(),
  }),
  plain("RunnerConnected"),
  z.object({
    type: z.literal("RunnerLoading"),
    layersLoaded: z.number().int().min(0),
    totalLayers: z.number().int().min(0),
  }),
  plain("RunnerLoaded"),
  plain("RunnerWarmingUp"),
  z.object({
    type: z.literal("RunnerReady"),
    /** How fast it reads prompts, when it does that for others, too. */
    prefillTokensPerSecond: z.number().positive().optional(),
  }),
  plain("RunnerRunning"),
  plain("RunnerShuttingDown"),
  plain("RunnerShutdown"),
  z.object({
    type: z.literal("RunnerFailed"),
    reason: z.string(),
    /** The last lines that the process wrote to stderr. */
    diagnostics: z.array(z.string()).max(50),
  }),
]);
export type RunnerStatus = z.infer<typeof RunnerStatus>;

/** A runner as the cluster knows it. */
export const RunnerState = z.object({
  status: RunnerStatus,
  /** Which start of the process this is; a report of an older one is ignored. */
  incarnation: z.number().int().min(0),
  /** When it entered this status; Ready and Running count as one, since both serve. */
  since: Millis,
  /** As its last Ready said; it holds while it runs, too. */
  prefillTokensPerSecond: z.number().positive().optional(),
});
export type RunnerState = z.infer<typeof RunnerState>;

/** Whether a runner in this status answers requests. */
export function isServing(status: RunnerStatus | undefined): boolean {
  return status?.type === "RunnerReady" || status?.type === "RunnerRunning";
}

/** Statuses of a runner whose weights are in memory. */
const LOADED: ReadonlySet<RunnerStatus["type"]> = new Set([
  "RunnerLoaded",
  "RunnerWarmingUp",
  "RunnerReady",
  "RunnerRunning",
]);

/** Whether the weights of a runner in this status are in memory, all of them. */
export function isLoaded({ type }: RunnerStatus): boolean {
  return LOADED.has(type);
}

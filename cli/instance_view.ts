import type { InstanceView, StateView, TaggedInstance } from "../api/client.ts";
import type { WaitMessage, WaitPhase } from "../api/instance_wait.ts";
import type { Output } from "./output.ts";

/** An instance as the command line tells of it. */
export interface InstanceSummary {
  readonly instanceId: string;
  readonly modelId: string;
  /** `ready`, `running`, `loading 3/30`, `failed`, … of its least advanced runner. */
  readonly status: string;
  readonly nodeIds: readonly string[];
  /** Why its last attempt failed, while it is tried again. */
  readonly lastError?: string;
}

/** How far a runner is, by its tag; the instance is as far as the last of its runners. */
const STAGES: Readonly<Record<string, string>> = {
  RunnerFailed: "failed",
  RunnerShutdown: "stopped",
  RunnerShuttingDown: "stopping",
  RunnerIdle: "starting",
  RunnerConnecting: "starting",
  RunnerConnected: "starting",
  RunnerLoading: "loading",
  RunnerLoaded: "loaded",
  RunnerWarmingUp: "warming up",
  RunnerRunning: "running",
  RunnerReady: "ready",
};

const ORDER = Object.keys(STAGES);

/** The inside of `{Tag: {…}}`. */
export function untagged(tagged: TaggedInstance): InstanceView | undefined {
  return Object.values(tagged)[0];
}

/** An instance with what its runners are doing. */
export function summarize(instance: InstanceView, state: StateView): InstanceSummary {
  const { modelId, nodeToRunner } = instance.shardAssignments;
  const retry = state.instanceRetries[instance.instanceId];
  const status = statusOf(Object.values(nodeToRunner), state, retry !== undefined);
  // Once it serves again, why it failed is history.
  const isServing = status === "ready" || status === "running";
  return {
    instanceId: instance.instanceId,
    modelId,
    status,
    nodeIds: Object.keys(nodeToRunner),
    ...(retry && !isServing ? { lastError: retry.lastError } : {}),
  };
}

/** All instances of a state. */
export function summaries(state: StateView): InstanceSummary[] {
  return Object.values(state.instances).flatMap((tagged) => {
    const instance = untagged(tagged);
    return instance ? [summarize(instance, state)] : [];
  });
}

function statusOf(runnerIds: readonly string[], state: StateView, isRetried: boolean): string {
  const stages = runnerIds.map((runnerId) => Object.entries(state.runners[runnerId] ?? {})[0]);
  stages.sort((a, b) => ORDER.indexOf(a?.[0] ?? "") - ORDER.indexOf(b?.[0] ?? ""));
  const [last] = stages;
  if (!last) return isRetried ? "retrying" : "starting";
  const [tag, inside] = last;
  const { layersLoaded, totalLayers } = inside as Record<string, unknown>;
  const layers = totalLayers === undefined ? "" : ` ${layersLoaded}/${totalLayers}`;
  return `${STAGES[tag] ?? tag}${layers}`;
}

/** What each phase of a wait is called. */
const PHASES: Readonly<Record<WaitPhase, string>> = {
  placing: "Waiting for an instance",
  downloading: "Waiting for the model's files",
  starting: "Starting",
  loading: "Loading layers",
  warming: "Warming up",
  retrying: "Failed, waiting for the next attempt",
};

/** Shows where an instance stands until it is ready; its id comes back. */
export async function follow(messages: AsyncIterable<WaitMessage>, out: Output): Promise<string> {
  let instanceId = "";
  try {
    for await (const message of messages) {
      if (message.type === "ready") instanceId = message.instanceId;
      if (message.type !== "progress") continue;
      const counted = Object.values(message.runners)
        .filter(({ totalLayers }) => totalLayers !== undefined);
      const sum = (key: "layersLoaded" | "totalLayers") =>
        counted.reduce((total, runner) => total + (runner[key] ?? 0), 0);
      const isLoading = message.phase === "loading" && counted.length > 0;
      out.progress({
        label: PHASES[message.phase],
        ...(isLoading ? { done: sum("layersLoaded"), total: sum("totalLayers") } : {}),
      });
    }
  } finally {
    out.endProgress();
  }
  return instanceId;
}

import { z } from "zod";
import type { InstanceView, StateView, TaggedInstance } from "../api/client.ts";
import type { WaitMessage, WaitPhase } from "../api/instance_wait.ts";
import { StatsView, statsView } from "./instance_stats.ts";
import type { Output } from "./output.ts";

/** How far a runner is, by its tag; the instance is as far as the last of its runners. */
const STAGES = {
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
} as const;

const ORDER = Object.keys(STAGES);

/** `retrying`: it failed and waits for its next attempt. `absent`: it waits for a node to return. */
const Status = z.enum([...new Set(Object.values(STAGES)), "retrying", "absent"]);

const Layers = z.object({ layersLoaded: z.number(), totalLayers: z.number() });

const RankView = z.strictObject({
  rank: z.number().int().describe("Its number; the first leads"),
  nodeId: z.string().describe("Node of the rank"),
  startLayer: z.number().int().describe("Its first layer"),
  endLayer: z.number().int().describe("Layer after its last"),
  sharding: z.enum(["Pipeline", "Tensor"])
    .describe("Whether it has those layers whole, or a part of each"),
  status: Status.describe("How far its runner is"),
  layersLoaded: z.number().int().optional().describe("Layers in memory, while it loads"),
  totalLayers: z.number().int().optional().describe("Layers in all, while it loads"),
});

/** An instance as the command line tells of it. */
export const InstanceSummary = z.strictObject({
  instanceId: z.string().describe("Id of the instance"),
  modelId: z.string().describe("Whole id of its model"),
  status: Status.describe("How far its least advanced runner is"),
  layersLoaded: z.number().int().optional().describe("Layers in memory, while it loads"),
  totalLayers: z.number().int().optional().describe("Layers in all, while it loads"),
  nodeIds: z.array(z.string()).readonly().describe("Nodes that it spans"),
  ranks: z.array(RankView).readonly().optional()
    .describe("How far each of its nodes is, where there are several"),
  metaInstanceId: z.string().optional().describe("The meta-instance that it was made for"),
  lastError: z.string().optional().describe("Why its last attempt failed, while it is tried again"),
  stats: StatsView.optional().describe("How its engine is doing, once it has told"),
});
export type InstanceSummary = z.infer<typeof InstanceSummary>;

type RankView = z.infer<typeof RankView>;

/** The inside of `{Tag: {…}}`. */
export function untagged(tagged: TaggedInstance): InstanceView | undefined {
  return Object.values(tagged)[0];
}

/** An instance with what its runners are doing. */
export function summarize(instance: InstanceView, state: StateView): InstanceSummary {
  const { modelId, nodeToRunner } = instance.shardAssignments;
  const retry = state.instanceRetries[instance.instanceId];
  const isRetried = retry !== undefined;
  const places = placesOf(instance);
  const standing = standingOf(Object.entries(nodeToRunner), state, isRetried);
  const { status } = standing;
  // Once it serves again, why it failed is history.
  const isServing = status === "ready" || status === "running";
  const stats = state.instanceStats[instance.instanceId];
  return {
    instanceId: instance.instanceId,
    modelId,
    ...standing,
    nodeIds: places.map(({ nodeId }) => nodeId),
    ...ranksOf(places, state, isRetried),
    ...(instance.metaInstanceId ? { metaInstanceId: instance.metaInstanceId } : {}),
    ...(retry && !isServing ? { lastError: retry.lastError } : {}),
    ...(stats && isServing ? { stats: statsView(stats) } : {}),
  };
}

/** All instances of a state. */
export function summaries(state: StateView): InstanceSummary[] {
  return Object.values(state.instances).flatMap((tagged) => {
    const instance = untagged(tagged);
    return instance ? [summarize(instance, state)] : [];
  });
}

/** `loading 3/30`, or the status alone; of several ranks that differ, that of each. */
export function statusWords(instance: InstanceSummary): string {
  const { ranks = [] } = instance;
  const words = [...new Set(ranks.map(standingWords))];
  return words.length > 1 ? ranks.map(standingWords).join(", ") : standingWords(instance);
}

function standingWords({ status, layersLoaded, totalLayers }: Standing): string {
  return totalLayers === undefined ? status : `${status} ${layersLoaded ?? 0}/${totalLayers}`;
}

type Standing = Pick<InstanceSummary, "status" | "layersLoaded" | "totalLayers">;

function standingOf(
  ranks: readonly (readonly [nodeId: string, runnerId: string])[],
  state: StateView,
  isRetried: boolean,
): Standing {
  if (ranks.some(([nodeId]) => !(nodeId in state.nodeIdentities))) return { status: "absent" };
  const runnerIds = ranks.map(([, runnerId]) => runnerId);
  const stages = runnerIds.map((runnerId) => Object.entries(state.runners[runnerId] ?? {})[0]);
  stages.sort((a, b) => ORDER.indexOf(a?.[0] ?? "") - ORDER.indexOf(b?.[0] ?? ""));
  const [last] = stages;
  if (!last) return { status: isRetried ? "retrying" : "starting" };
  const [tag, inside] = last;
  // A node of another version may know a stage that we do not: it is on its way.
  const status = isStage(tag) ? STAGES[tag] : "starting";
  const layers = Layers.safeParse(inside);
  return { status, ...layers.data };
}

/** A rank with its node and its part of the model. */
interface Place extends Pick<RankView, "rank" | "nodeId" | "startLayer" | "endLayer" | "sharding"> {
  readonly runnerId: string;
}

/** Where the ranks of an instance are, by rank. */
function placesOf({ shardAssignments: { nodeToRunner, runnerToShard } }: InstanceView): Place[] {
  const places = Object.entries(nodeToRunner).map(([nodeId, runnerId]): Place => {
    const [[tag, shard] = []] = Object.entries(runnerToShard[runnerId] ?? {});
    const { deviceRank: rank = 0, startLayer = 0, endLayer = 0 } = shard ?? {};
    const sharding = tag === "TensorShardMetadata" ? "Tensor" : "Pipeline";
    return { rank, nodeId, runnerId, startLayer, endLayer, sharding };
  });
  return places.toSorted((a, b) => a.rank - b.rank);
}

function ranksOf(
  places: readonly Place[],
  state: StateView,
  isRetried: boolean,
): Pick<InstanceSummary, "ranks"> {
  const ranks = places.map(({ runnerId, ...place }) => ({
    ...place,
    ...standingOf([[place.nodeId, runnerId]], state, isRetried),
  }));
  return ranks.length > 1 ? { ranks } : {};
}

/** `mini 0-14, studio 15-29`: the nodes of an instance, and which layers each has of several. */
export function placeWords(
  { nodeIds, ranks = [] }: Pick<InstanceSummary, "nodeIds" | "ranks">,
  names: ReadonlyMap<string, string>,
): string {
  const nameOf = (nodeId: string) => names.get(nodeId) ?? nodeId;
  if (ranks.length === 0) return nodeIds.map(nameOf).join(", ");
  return ranks.map((rank) => `${nameOf(rank.nodeId)} ${layerWords(rank, ranks.length)}`).join(", ");
}

/** One line for each of several ranks. */
export function rankLines(
  { ranks = [] }: Pick<InstanceSummary, "ranks">,
  names: ReadonlyMap<string, string>,
): string[] {
  return ranks.map((rank) => {
    const where = `${names.get(rank.nodeId) ?? rank.nodeId}, layers`;
    const words = `${where} ${layerWords(rank, ranks.length)}, ${standingWords(rank)}`;
    return `rank ${rank.rank}    ${words}`;
  });
}

/** Of a tensor-parallel rank: its part of all layers. */
function layerWords({ startLayer, endLayer, sharding }: RankView, count: number): string {
  const layers = `${startLayer}-${endLayer - 1}`;
  return sharding === "Tensor" ? `${layers} (1/${count} of each)` : layers;
}

function isStage(tag: string): tag is keyof typeof STAGES {
  return tag in STAGES;
}

/** What each phase of a wait is called. */
const PHASES: Readonly<Record<WaitPhase, string>> = {
  placing: "Waiting for an instance",
  downloading: "Waiting for the model's files",
  starting: "Starting",
  loading: "Loading layers",
  warming: "Warming up",
  retrying: "Failed, waiting for the next attempt",
  absent: "Waiting for a node that is gone",
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
        label: `${PHASES[message.phase]}${rankProgress(message)}`,
        ...(isLoading ? { done: sum("layersLoaded"), total: sum("totalLayers") } : {}),
      });
    }
  } finally {
    out.endProgress();
  }
  return instanceId;
}

/** How far each of several ranks is: `: mini loading 3/15, studio connected`. */
function rankProgress({ runners }: Extract<WaitMessage, { type: "progress" }>): string {
  const ranks = Object.values(runners).flatMap(({ node, status, ...layers }) => {
    const stage = isStage(status) ? STAGES[status] : "starting";
    return node === undefined ? [] : [`${node} ${standingWords({ status: stage, ...layers })}`];
  });
  return ranks.length === 0 ? "" : `: ${ranks.join(", ")}`;
}

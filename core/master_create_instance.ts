import type { Decision } from "./decision.ts";
import type { Connections } from "./connection.ts";
import { AppError, type ErrorCode } from "./errors.ts";
import type { NodeId } from "./ids.ts";
import { type Instance, nodesByRank, runnersOf, type Shard } from "./instance.ts";
import { idTaken } from "./master_instances.ts";
import type { ModelCard } from "./model_card.ts";
import { misfit, placementHint } from "./placement.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";
import { edgesBetween } from "./topology.ts";

/** What to do about an instance that was put together wrongly. */
const BY_ITSELF = "let exo put it together: exo instance create MODEL";

/**
 * Takes an instance as a client has put it together, once it holds: its nodes are there and reach
 * each other, its shards cover the model, its memory fits. Of the model the cluster's card counts.
 */
export function createInstance(
  state: State,
  instance: Instance,
  telemetry: Telemetry,
): Decision {
  const { instanceId, shardAssignments } = instance;
  const wanted = `Cannot create instance "${instanceId}"`;
  const refused = (code: ErrorCode, found: string, hint = BY_ITSELF) =>
    new AppError(code, `${wanted}: ${found}`, { hint });
  if (state.instances.has(instanceId)) throw idTaken(wanted, instanceId);
  const nodes = Object.keys(shardAssignments.nodeToRunner) as NodeId[];
  const unknown = nodes.find((id) => !state.nodes.has(id));
  if (nodes.length === 0 || unknown !== undefined) {
    const found = unknown === undefined ? "it names no node" : `node ${unknown} is not known`;
    const hint = `known nodes: ${[...state.nodes.keys()].join(", ") || "none"}`;
    throw refused("placement_failed", `${found}, a known node needed`, hint);
  }
  const wrong = wrongRanks(instance) ?? wrongLayers(instance) ?? wrongWays(state, instance);
  if (wrong) throw refused("invalid_request", wrong);
  const taken = runnersOf(instance).find((id) =>
    [...state.instances.values()].some((one) => runnersOf(one).includes(id))
  );
  if (taken !== undefined) {
    const hint = "choose other runner ids, or let exo choose: exo instance create MODEL";
    throw refused("conflict", `runner ${taken} exists already, a new id needed`, hint);
  }
  const [{ nLayers, modelCard }] = shardsOf(instance) as [Shard];
  const card = state.customModelCards.get(shardAssignments.modelId) ?? modelCard;
  if (nLayers !== card.nLayers) {
    const found = `found ${nLayers} layers, the model has ${card.nLayers}`;
    throw refused("invalid_request", found);
  }
  const believed = withCard(instance, card);
  const short = tooLittleMemory(state, believed, { card, telemetry });
  if (short) throw refused("placement_failed", short.reason, short.hint);
  return { events: [{ type: "InstanceCreated", instance: believed }], instanceId };
}

/** The shards by rank. */
function shardsOf(instance: Instance): Shard[] {
  const { runnerToShard } = instance.shardAssignments;
  return Object.values(runnerToShard).toSorted((a, b) => a.deviceRank - b.deviceRank);
}

/** Whether nodes, runners and ranks belong together one by one. */
function wrongRanks(instance: Instance): string | undefined {
  const { modelId, runnerToShard, nodeToRunner } = instance.shardAssignments;
  const bound = Object.values(nodeToRunner);
  const shardless = bound.find((id) => runnerToShard[id] === undefined);
  if (shardless !== undefined) return `runner ${shardless} has no shard, one needed`;
  const twice = bound.find((id, at) => bound.indexOf(id) !== at);
  if (twice !== undefined) return `runner ${twice} has two nodes, one needed`;
  const unbound = Object.keys(runnerToShard).find((id) => !bound.some((one) => one === id));
  if (unbound !== undefined) return `runner ${unbound} has no node, one needed`;
  for (const [rank, { deviceRank, worldSize, modelCard }] of shardsOf(instance).entries()) {
    if (deviceRank !== rank) return `found rank ${deviceRank}, ${rank} needed`;
    if (worldSize !== bound.length) {
      return `found a world of ${worldSize} ranks, ${bound.length} needed`;
    }
    if (modelCard.modelId !== modelId) {
      return `found shards of ${modelCard.modelId}, ${modelId} needed`;
    }
  }
  return undefined;
}

/** Whether the shards are of one kind, and together the model. */
function wrongLayers(instance: Instance): string | undefined {
  const shards = shardsOf(instance);
  const kinds = new Set(shards.map(({ type, nLayers }) => `${type} of ${nLayers} layers`));
  if (kinds.size > 1) return `found shards ${[...kinds].join(" and ")}, one kind needed`;
  for (const row of Map.groupBy(shards, rowOf).values()) {
    const found = wrongRow(row.toSorted((a, b) => placeIn(a) - placeIn(b)));
    if (found) return found;
  }
  return undefined;
}

/** Whether shards, one after the other, are the layers of a model. */
function wrongRow(row: readonly Shard[]): string | undefined {
  let next = 0;
  for (const { startLayer, endLayer, nLayers } of row) {
    if (startLayer !== next || endLayer <= startLayer || endLayer > nLayers) {
      return `layers ${startLayer} to ${endLayer} of ${nLayers}, from ${next} on needed`;
    }
    next = endLayer;
  }
  const total = row[0]?.nLayers;
  return next === total ? undefined : `found layers 0 to ${next} of ${total}, all needed`;
}

/** Where in its row a shard stands. */
function placeIn(shard: Shard): number {
  return shard.type === "CfgShardMetadata" ? shard.pipelineRank : shard.deviceRank;
}

/** Shards of one row hold a model among them; each rank of a tensor split is a row of its own. */
function rowOf(shard: Shard): string {
  if (shard.type === "TensorShardMetadata") return `rank ${shard.deviceRank}`;
  return shard.type === "CfgShardMetadata" ? `half ${shard.cfgRank}` : "pipeline";
}

/** Whether the ranks can reach each other as the instance says. */
function wrongWays({ connections }: State, instance: Instance): string | undefined {
  const nodes = nodesByRank(instance);
  if (nodes.length < 2) return undefined;
  if (instance.type === "MlxJacclInstance") {
    return wrongCables(connections, instance, nodes) ?? wrongRing(connections, instance, nodes);
  }
  if (instance.ephemeralPort === undefined) return "it has no ephemeralPort, one needed for a ring";
  return wrongRing(connections, instance, nodes);
}

/** Each node names an address of each rank, and neighbours have a way between them. */
function wrongRing(
  connections: Connections,
  { hostsByNode }: Pick<Instance, "hostsByNode">,
  nodes: readonly NodeId[],
): string | undefined {
  for (const [rank, node] of nodes.entries()) {
    const found = hostsByNode[node]?.length ?? 0;
    if (found !== nodes.length) {
      return `node ${node} names ${found} hosts, ${nodes.length} needed`;
    }
    const next = nodes[(rank + 1) % nodes.length] as NodeId;
    const ways = [
      ...edgesBetween(connections, node, next),
      ...edgesBetween(connections, next, node),
    ];
    if (!ways.some(({ type }) => type === "SocketConnection")) {
      return `nodes ${node} and ${next} do not reach each other, neighbours in a ring need to`;
    }
  }
  return undefined;
}

/** Each pair of ranks has the cable that the matrix names. */
function wrongCables(
  connections: Connections,
  { jacclDevices, jacclCoordinators }: Extract<Instance, { type: "MlxJacclInstance" }>,
  nodes: readonly NodeId[],
): string | undefined {
  for (const [row, source] of nodes.entries()) {
    if (jacclCoordinators[source] === undefined) return `node ${source} has no coordinator`;
    for (const [column, sink] of nodes.entries()) {
      const device = jacclDevices[row]?.[column] ?? null;
      const isWay = edgesBetween(connections, source, sink).some((edge) =>
        edge.type === "RdmaConnection" && edge.sourceRdmaIface === device
      );
      const isWanted = row === column ? device === null : isWay;
      if (!isWanted) {
        return `from node ${source} to ${sink} found ${device ?? "no device"}, ` +
          (row === column ? "none needed" : "one with a cable between them needed");
      }
    }
  }
  return undefined;
}

function tooLittleMemory(
  state: State,
  instance: Instance,
  { card, telemetry }: { card: ModelCard; telemetry: Telemetry },
): { reason: string; hint: string } | undefined {
  const { config, type } = instance;
  const instanceMeta = type === "MlxRingInstance" ? "MlxRing" : "MlxJaccl";
  const nodeIds = nodesByRank(instance);
  for (const [index, nodeId] of nodeIds.entries()) {
    const shard = shardsOf(instance)[index] as Shard;
    const reason = misfit(state, telemetry, { nodeId, card, config, shard, instanceMeta });
    if (reason === undefined) continue;
    return { reason, hint: placementHint(state, telemetry, { card, nodeIds, config }) };
  }
  return undefined;
}

/** What a client says of a model counts for nothing beside what the cluster knows. */
function withCard(instance: Instance, modelCard: ModelCard): Instance {
  const { shardAssignments } = instance;
  const shards = Object.entries(shardAssignments.runnerToShard)
    .map(([id, shard]) => [id, { ...shard, modelCard }]);
  const runnerToShard = Object.fromEntries(shards);
  return { ...instance, shardAssignments: { ...shardAssignments, runnerToShard } };
}

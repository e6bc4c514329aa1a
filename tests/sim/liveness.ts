import type { Edge } from "../../core/connection.ts";
import type { NodeId } from "../../core/ids.ts";
import { type Instance, rankOn, runnersOf } from "../../core/instance.ts";
import { compareEpochs, openSegment } from "../../core/lineage.ts";
import { isServing } from "../../core/runner_status.ts";
import type { State } from "../../core/state.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/**
 * What a cluster still owes once all mishaps are over: one line for each thing that is not as it
 * should be; none when it has come to rest.
 */
export function owed(world: World): string[] {
  const { nodes } = world;
  const down = nodes.filter(({ isUp }) => !isUp).map(({ nodeId }) => `${nodeId} is down`);
  if (down.length > 0) return down;
  const [first] = nodes as [SimNode];
  const apart = agreement(nodes);
  if (apart.length > 0) return apart;
  const { state } = first;
  return [
    ...membership(world, state),
    ...nodes.flatMap((node) => clients(node)),
    ...[...state.tasks.keys()].map((id) => `task ${id} is not reaped`),
    ...wishes(state),
    ...[...state.instances.values()].flatMap((instance) => runners(world, state, instance)),
    ...nodes.flatMap((node) => processes(node)),
  ];
}

/** One master, whom all follow to the same event. */
function agreement(nodes: readonly SimNode[]): string[] {
  const masters = nodes.filter(({ isMaster }) => isMaster);
  if (masters.length !== 1) {
    return [`there are ${masters.length} masters: ${masters.map(({ nodeId }) => nodeId)}`];
  }
  const [master] = masters as [SimNode];
  const reign = openSegment(master.state.lineage)?.epoch;
  return nodes.flatMap(({ nodeId, state, member, disk }) => {
    const epoch = openSegment(state.lineage)?.epoch;
    const same = reign && epoch && compareEpochs(reign, epoch) === 0 &&
      state.lastEventAppliedIdx === master.state.lastEventAppliedIdx;
    if (!same) return [`${nodeId} is at ${state.lastEventAppliedIdx} of ${epoch?.clock}`];
    if (member?.master !== master.nodeId) return [`${nodeId} follows ${member?.master}`];
    return disk.branch ? [`${nodeId} still keeps a branch`] : [];
  });
}

/** The nodes of the state are those that live, each with its newest start and its edges. */
function membership({ nodes, isCabled }: World, state: State): string[] {
  const live = new Set<string>(nodes.map(({ nodeId }) => nodeId));
  const ghosts = [...state.nodes.keys()].filter((id) => !live.has(id))
    .map((id) => `node ${id} is still there`);
  return [
    ...ghosts,
    ...nodes.flatMap(({ nodeId, disk }) => {
      const known = state.nodes.get(nodeId)?.incarnation;
      if (known !== disk.incarnation) return [`${nodeId} is known as of start ${known}`];
      const sinks = [...state.connections.get(nodeId)?.values() ?? []];
      const has = (type: Edge["type"]) =>
        sinks.filter((edges) => edges.some((edge) => edge.type === type)).length;
      const [sockets, cables] = [has("SocketConnection"), has("RdmaConnection")];
      const wanted = nodes.length - 1;
      const isConnected = sockets === wanted && cables === (isCabled ? wanted : 0);
      return isConnected ? [] : [`${nodeId} reaches ${sockets} nodes, ${cables} by cable`];
    }),
  ];
}

function clients({ nodeId, asked, api }: SimNode): string[] {
  return [
    ...[...asked.values()].map(({ command }) =>
      `${nodeId} owes an answer to ${command.type} ${command.commandId}`
    ),
    ...[...(api?.pending.keys() ?? [])].map((id) => `${nodeId} owes an end to generation ${id}`),
  ];
}

/** Each meta-instance is ready, or says why not. */
function wishes(state: State): string[] {
  return [...state.metaInstances.values()].flatMap((meta) => {
    const { metaInstanceId: id, phase, placementError, lastFailureError } = meta;
    const bound = [...state.instances.values()].filter(({ metaInstanceId }) =>
      metaInstanceId === id
    );
    if (bound.length > 1) return [`${id} has ${bound.length} instances`];
    switch (phase) {
      case "ready":
        return bound.length === 1 ? [] : [`${id} is ready without an instance`];
      case "parked":
        return lastFailureError ? [] : [`${id} is parked without a reason`];
      case "placing":
        return placementError ? [] : [`${id} is being placed without a reason`];
      default:
        return [`${id} is ${phase}`];
    }
  });
}

/** The ranks of an instance serve, or it says why not. */
function runners(world: World, state: State, instance: Instance): string[] {
  const { instanceId, shardAssignments: { modelId, nodeToRunner } } = instance;
  const nodeIds = Object.keys(nodeToRunner) as NodeId[];
  const { metaInstanceId } = instance;
  if (metaInstanceId && !state.metaInstances.has(metaInstanceId)) {
    return [`${instanceId} outlives its wish ${metaInstanceId}`];
  }
  // It waits until its node is back.
  if (nodeIds.some((id) => !state.nodes.has(id))) {
    return instance.metaInstanceId ? [`${instanceId} is bound, and its node is away`] : [];
  }
  const temper = world.temperOf(modelId);
  const retry = state.instanceRetries.get(instanceId);
  const mayFail = temper === "never" || temper === "flaky";
  if (mayFail && retry && !instance.metaInstanceId) {
    return retry.lastError ? [] : [`${instanceId} is retried without a reason`];
  }
  const isReady = runnersOf(instance).every((id) => isServing(state.runners.get(id)?.status));
  if (!isReady) {
    const found = runnersOf(instance).map((id) => state.runners.get(id)?.status.type ?? "absent");
    return [`${instanceId} of ${modelId} is not ready: ${found}`];
  }
  return nodeIds.flatMap((nodeId) => {
    const rank = rankOn(instance, nodeId);
    const process = rank && world.nodeOf(nodeId)?.worker?.ranks.get(rank.runnerId);
    const known = rank && state.runners.get(rank.runnerId);
    const isIt = process?.isAlive && process.incarnation === known?.incarnation;
    return isIt ? [] : [`${rank?.runnerId} is ready without a process`];
  });
}

/** No process without an instance. */
function processes({ nodeId, state, worker }: SimNode): string[] {
  return [...(worker?.ranks ?? [])].flatMap(([runnerId, { instanceId, isAlive }]) => {
    const instance = state.instances.get(instanceId);
    const isWanted = instance && rankOn(instance, nodeId)?.runnerId === runnerId;
    return isWanted || !isAlive ? [] : [`${nodeId} runs ${runnerId} for nobody`];
  });
}

/** What is left of a cluster in which everything was deleted. */
export function leftOver(state: State): string[] {
  const tables = {
    stamps: state.stamps,
    instances: state.instances,
    instanceRetries: state.instanceRetries,
    metaInstances: state.metaInstances,
    instanceLinks: state.instanceLinks,
    runners: state.runners,
    tasks: state.tasks,
    customModelCards: state.customModelCards,
  };
  return Object.entries(tables).flatMap(([name, table]) =>
    [...table.keys()].map((key) => `${name} still has ${key}`)
  );
}

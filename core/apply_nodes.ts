import type { Connection } from "./connection.ts";
import type { Event } from "./events.ts";
import type { NodeId } from "./ids.ts";
import type { Stamp } from "./lineage.ts";
import type { GatheredInfo, NodeState } from "./node_info.ts";
import { isSame } from "./same.ts";
import { drop, put, type State } from "./state.ts";
import {
  addConnection,
  removeAllRdmaTouching,
  removeConnection,
  removeNode,
  replaceAllOutRdma,
} from "./topology.ts";

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;
type Info<T extends GatheredInfo["type"]> = Extract<GatheredInfo, { type: T }>;

/** A node has started: what an earlier process found out about its ports has to be found anew. */
export function nodeStarted(state: State, event: Of<"NodeStarted">, { idx }: Stamp): State {
  const { incarnation, info } = event;
  const node: NodeState = { incarnation, info, network: [], thunderbolt: [] };
  return {
    ...state,
    nodes: put(state.nodes, event.nodeId, node),
    connections: removeAllRdmaTouching(state.connections, event.nodeId),
    topologyIdx: idx,
  };
}

/** A node goes with all that it said of itself; what it ran is the reconcilers' concern. */
export function nodeGone(state: State, nodeId: NodeId, { idx }: Stamp): State {
  if (!state.nodes.has(nodeId)) return state;
  return {
    ...state,
    nodes: drop(state.nodes, nodeId),
    connections: removeNode(state.connections, nodeId),
    downloads: drop(state.downloads, nodeId),
    topologyIdx: idx,
  };
}

/** An edge between present nodes; an equal one changes nothing. */
export function edgeCreated(state: State, connection: Connection, { idx }: Stamp): State {
  const connections = addConnection(state.connections, connection);
  if (connections === state.connections) return state;
  return { ...state, connections, topologyIdx: idx };
}

/** An edge that is gone. */
export function edgeDeleted(state: State, connection: Connection): State {
  return { ...state, connections: removeConnection(state.connections, connection) };
}

/** A fact about a node; the state itself when it is known, or the node is not there. */
export function nodeGatheredInfo(
  state: State,
  { nodeId, info }: Of<"NodeGatheredInfo">,
  idx: number,
): State {
  const node = state.nodes.get(nodeId);
  if (!node) return state;
  const facts = (fields: Partial<NodeState["info"]>) =>
    withNode(state, nodeId, { ...node, info: { ...node.info, ...fields } });
  switch (info.type) {
    case "MiscData":
      return facts({ friendlyName: info.friendlyName });
    case "StaticNodeInformation": {
      const { type: _, ...fields } = info;
      return facts(fields);
    }
    case "NodeBackends": {
      const changed = facts({ backends: info.backends });
      return changed === state ? state : { ...changed, topologyIdx: idx };
    }
    case "MemoryBandwidth":
      return facts({ memoryBandwidthBytesPerSecond: info.memoryBandwidthBytesPerSecond });
    case "NodeNetworkInterfaces":
      return withNode(state, nodeId, { ...node, network: info.interfaces });
    case "MacThunderboltIdentifiers":
      return withNode(state, nodeId, { ...node, thunderbolt: info.idents });
    case "MacThunderboltConnections":
      return thunderboltConnections(state, { nodeId, info, idx });
    case "ThunderboltBridgeInfo":
      return withNode(state, nodeId, { ...node, thunderboltBridge: info.status });
    case "RdmaCtlStatus":
      return rdmaCtlStatus(state, { nodeId, node, enabled: info.enabled });
    // deno-coverage-ignore-start
    default:
      return info satisfies never;
      // deno-coverage-ignore-stop
  }
}

function withNode(state: State, nodeId: NodeId, node: NodeState): State {
  if (isSame(state.nodes.get(nodeId), node)) return state;
  return { ...state, nodes: put(state.nodes, nodeId, node) };
}

/** Cables become RDMA edges where both ends are known and have RDMA switched on. */
function thunderboltConnections(
  state: State,
  { nodeId, info, idx }: {
    nodeId: NodeId;
    info: Info<"MacThunderboltConnections">;
    idx: number;
  },
): State {
  const ports = new Map(
    [...state.nodes].flatMap(([id, { thunderbolt, rdmaCtlEnabled }]) =>
      rdmaCtlEnabled === true
        ? thunderbolt.map(({ domainUuid, rdmaInterface }) =>
          [domainUuid, { id, rdmaInterface }] as const
        )
        : []
    ),
  );
  const rdma = info.connections.flatMap(({ sourceUuid, sinkUuid }): Connection[] => {
    const [source, sink] = [ports.get(sourceUuid), ports.get(sinkUuid)];
    if (source?.id !== nodeId || !sink || sink.id === nodeId) return [];
    const sourceRdmaIface = source.rdmaInterface;
    const edge = {
      type: "RdmaConnection" as const,
      sourceRdmaIface,
      sinkRdmaIface: sink.rdmaInterface,
    };
    return [{ source: nodeId, sink: sink.id, edge }];
  });
  const connections = replaceAllOutRdma(state.connections, nodeId, rdma);
  return connections === state.connections ? state : { ...state, connections, topologyIdx: idx };
}

/** Switched off, its RDMA edges go at once; switched on, they come with the next look at cables. */
function rdmaCtlStatus(
  state: State,
  { nodeId, node, enabled }: { nodeId: NodeId; node: NodeState; enabled: boolean },
): State {
  const changed = withNode(state, nodeId, { ...node, rdmaCtlEnabled: enabled });
  if (enabled) return changed;
  return { ...changed, connections: removeAllRdmaTouching(state.connections, nodeId) };
}

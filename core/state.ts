import { z } from "zod";
import { type Connections, Edge } from "./connection.ts";
import { DownloadStatus } from "./download.ts";
import {
  InstanceId,
  InstanceLinkId,
  MetaInstanceId,
  ModelId,
  NodeId,
  RunnerId,
  TaskId,
} from "./ids.ts";
import { Instance } from "./instance.ts";
import { InstanceLink } from "./instance_link.ts";
import { IntentKey } from "./intent_key.ts";
import { EMPTY_LINEAGE, Lineage, Stamp } from "./lineage.ts";
import { MetaInstance } from "./meta_instance.ts";
import { ModelCard } from "./model_card.ts";
import { NodeState } from "./node_info.ts";
import { RunnerState } from "./runner_status.ts";
import { Task } from "./task.ts";
import { Millis } from "./units.ts";

/** How often an instance has failed, and when it may be tried again (D14). */
export const InstanceRetry = z.object({
  attempts: z.number().int().min(0),
  notBefore: Millis,
  lastError: z.string(),
  /** The processes that failed: what they say from now on is of the past. */
  incarnations: z.record(RunnerId, z.number().int().min(0)).default({}),
});
export type InstanceRetry = z.infer<typeof InstanceRetry>;

/** The cluster as data. Equal logs give equal states on every node. */
export interface State {
  /** −1 before the first event. */
  readonly lastEventAppliedIdx: number;
  /** The newest event by which a node came or went, or a way between two came; −1: none. */
  readonly topologyIdx: number;
  readonly lineage: Lineage;
  /** Where in the history each present intent was set. */
  readonly stamps: ReadonlyMap<IntentKey, Stamp>;
  /** The live nodes. */
  readonly nodes: ReadonlyMap<NodeId, NodeState>;
  readonly connections: Connections;
  readonly instances: ReadonlyMap<InstanceId, Instance>;
  readonly instanceRetries: ReadonlyMap<InstanceId, InstanceRetry>;
  readonly metaInstances: ReadonlyMap<MetaInstanceId, MetaInstance>;
  readonly instanceLinks: ReadonlyMap<InstanceLinkId, InstanceLink>;
  readonly runners: ReadonlyMap<RunnerId, RunnerState>;
  readonly tasks: ReadonlyMap<TaskId, Task>;
  readonly downloads: ReadonlyMap<NodeId, ReadonlyMap<ModelId, DownloadStatus>>;
  readonly customModelCards: ReadonlyMap<ModelId, ModelCard>;
}

/** A cluster in which nothing has happened. */
export const EMPTY_STATE: State = {
  lastEventAppliedIdx: -1,
  topologyIdx: -1,
  lineage: EMPTY_LINEAGE,
  stamps: new Map(),
  nodes: new Map(),
  connections: new Map(),
  instances: new Map(),
  instanceRetries: new Map(),
  metaInstances: new Map(),
  instanceLinks: new Map(),
  runners: new Map(),
  tasks: new Map(),
  downloads: new Map(),
  customModelCards: new Map(),
};

/** A copy of `table` with `key` set; a key that was there keeps its place. */
export function put<K, V>(
  table: ReadonlyMap<K, V>,
  key: NoInfer<K>,
  value: NoInfer<V>,
): ReadonlyMap<K, V> {
  return new Map(table).set(key, value);
}

/** A copy of `table` without `keys`; the table itself when it has none of them. */
export function drop<K, V>(
  table: ReadonlyMap<K, V>,
  ...keys: readonly NoInfer<K>[]
): ReadonlyMap<K, V> {
  if (!keys.some((key) => table.has(key))) return table;
  const copy = new Map(table);
  for (const key of keys) copy.delete(key);
  return copy;
}

/** Grows when the stored form of a state changes; a snapshot of a newer version is refused. */
export const STATE_SCHEMA_VERSION = 2;

const edges = z.array(z.tuple([NodeId, z.array(Edge)]));

/** The state as JSON: tables become arrays of pairs, so that order survives. */
export const StateJson = z.object({
  lastEventAppliedIdx: z.number().int().min(-1),
  topologyIdx: z.number().int().min(-1),
  lineage: Lineage,
  stamps: z.array(z.tuple([IntentKey, Stamp])),
  nodes: z.array(z.tuple([NodeId, NodeState])),
  connections: z.array(z.tuple([NodeId, edges])),
  instances: z.array(z.tuple([InstanceId, Instance])),
  instanceRetries: z.array(z.tuple([InstanceId, InstanceRetry])),
  metaInstances: z.array(z.tuple([MetaInstanceId, MetaInstance])),
  instanceLinks: z.array(z.tuple([InstanceLinkId, InstanceLink])),
  runners: z.array(z.tuple([RunnerId, RunnerState])),
  tasks: z.array(z.tuple([TaskId, Task])),
  downloads: z.array(z.tuple([NodeId, z.array(z.tuple([ModelId, DownloadStatus]))])),
  customModelCards: z.array(z.tuple([ModelId, ModelCard])),
});
export type StateJson = z.infer<typeof StateJson>;

/** The state as plain JSON data. */
export function stateToJson(state: State): StateJson {
  return {
    lastEventAppliedIdx: state.lastEventAppliedIdx,
    topologyIdx: state.topologyIdx,
    lineage: state.lineage,
    stamps: [...state.stamps],
    nodes: [...state.nodes],
    connections: nested(state.connections, (edges) => [...edges]),
    instances: [...state.instances],
    instanceRetries: [...state.instanceRetries],
    metaInstances: [...state.metaInstances],
    instanceLinks: [...state.instanceLinks],
    runners: [...state.runners],
    tasks: [...state.tasks],
    downloads: nested(state.downloads, (status) => status),
    customModelCards: [...state.customModelCards],
  };
}

/** The state that plain JSON data holds. */
export function stateOfJson(json: StateJson): State {
  return {
    lastEventAppliedIdx: json.lastEventAppliedIdx,
    topologyIdx: json.topologyIdx,
    lineage: json.lineage,
    stamps: new Map(json.stamps),
    nodes: new Map(json.nodes),
    connections: new Map(json.connections.map(([source, sinks]) => [source, new Map(sinks)])),
    instances: new Map(json.instances),
    instanceRetries: new Map(json.instanceRetries),
    metaInstances: new Map(json.metaInstances),
    instanceLinks: new Map(json.instanceLinks),
    runners: new Map(json.runners),
    tasks: new Map(json.tasks),
    downloads: new Map(json.downloads.map(([nodeId, models]) => [nodeId, new Map(models)])),
    customModelCards: new Map(json.customModelCards),
  };
}

/** The state as one JSON text. */
export function encodeState(state: State): string {
  return JSON.stringify(stateToJson(state));
}

/**
 * The state that `text` holds.
 * @throws {z.ZodError | SyntaxError} when it is not one.
 */
export function decodeState(text: string): State {
  return stateOfJson(StateJson.parse(JSON.parse(text)));
}

function nested<A, B, V, W>(
  tables: ReadonlyMap<A, ReadonlyMap<B, V>>,
  encode: (value: V) => W,
): [A, [B, W][]][] {
  return [...tables].map(([key, table]) => [
    key,
    [...table].map(([inner, value]): [B, W] => [inner, encode(value)]),
  ]);
}

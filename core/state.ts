import { z } from "zod";
import { DownloadStatus } from "./download.ts";
import { InstanceId, ModelId, NodeId, RunnerId, TaskId } from "./ids.ts";
import { Instance } from "./instance.ts";
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
});
export type InstanceRetry = z.infer<typeof InstanceRetry>;

/** The cluster as data. Equal logs give equal states on every node. */
export interface State {
  /** −1 before the first event. */
  readonly lastEventAppliedIdx: number;
  readonly nodes: ReadonlyMap<NodeId, NodeState>;
  readonly instances: ReadonlyMap<InstanceId, Instance>;
  readonly instanceRetries: ReadonlyMap<InstanceId, InstanceRetry>;
  readonly runners: ReadonlyMap<RunnerId, RunnerState>;
  readonly tasks: ReadonlyMap<TaskId, Task>;
  readonly downloads: ReadonlyMap<NodeId, ReadonlyMap<ModelId, DownloadStatus>>;
  readonly customModelCards: ReadonlyMap<ModelId, ModelCard>;
}

/** A cluster in which nothing has happened. */
export const EMPTY_STATE: State = {
  lastEventAppliedIdx: -1,
  nodes: new Map(),
  instances: new Map(),
  instanceRetries: new Map(),
  runners: new Map(),
  tasks: new Map(),
  downloads: new Map(),
  customModelCards: new Map(),
};

/** A copy of `table` with `key` set; a key that was there keeps its place. */
export function put<K, V>(table: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(table).set(key, value);
}

/** A copy of `table` without `keys`; the table itself when it has none of them. */
export function drop<K, V>(table: ReadonlyMap<K, V>, ...keys: readonly K[]): ReadonlyMap<K, V> {
  if (!keys.some((key) => table.has(key))) return table;
  const copy = new Map(table);
  for (const key of keys) copy.delete(key);
  return copy;
}

/** Grows when the stored form of a state changes; a snapshot of a newer version is refused. */
export const STATE_SCHEMA_VERSION = 1;

/** The state as JSON: tables become arrays of pairs, so that order survives. */
const StateJson = z.object({
  lastEventAppliedIdx: z.number().int().min(-1),
  nodes: z.array(z.tuple([NodeId, NodeState])),
  instances: z.array(z.tuple([InstanceId, Instance])),
  instanceRetries: z.array(z.tuple([InstanceId, InstanceRetry])),
  runners: z.array(z.tuple([RunnerId, RunnerState])),
  tasks: z.array(z.tuple([TaskId, Task])),
  downloads: z.array(z.tuple([NodeId, z.array(z.tuple([ModelId, DownloadStatus]))])),
  customModelCards: z.array(z.tuple([ModelId, ModelCard])),
});

/** The state as one JSON text. */
export function encodeState(state: State): string {
  const json: z.infer<typeof StateJson> = {
    lastEventAppliedIdx: state.lastEventAppliedIdx,
    nodes: [...state.nodes],
    instances: [...state.instances],
    instanceRetries: [...state.instanceRetries],
    runners: [...state.runners],
    tasks: [...state.tasks],
    downloads: [...state.downloads].map(([nodeId, models]) => [nodeId, [...models]]),
    customModelCards: [...state.customModelCards],
  };
  return JSON.stringify(json);
}

/**
 * The state that `text` holds.
 * @throws {z.ZodError | SyntaxError} when it is not one.
 */
export function decodeState(text: string): State {
  const json = StateJson.parse(JSON.parse(text));
  return {
    lastEventAppliedIdx: json.lastEventAppliedIdx,
    nodes: new Map(json.nodes),
    instances: new Map(json.instances),
    instanceRetries: new Map(json.instanceRetries),
    runners: new Map(json.runners),
    tasks: new Map(json.tasks),
    downloads: new Map(json.downloads.map(([nodeId, models]) => [nodeId, new Map(models)])),
    customModelCards: new Map(json.customModelCards),
  };
}

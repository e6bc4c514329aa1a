import { instanceCreated, instanceDeleted } from "./apply_instances.ts";
import { customModelCardDeleted } from "./apply_models.ts";
import type { Event } from "./events.ts";
import type { InstanceId, InstanceLinkId, MetaInstanceId, ModelId } from "./ids.ts";
import { type IntentKey, type IntentKind, partsOf } from "./intent_key.ts";
import { withBranch } from "./lineage.ts";
import { drop, put, type State } from "./state.ts";
import { isInFlight } from "./task.ts";

/** What the other side of a partition was asked for, under its old ids and stamps (D15). */
export function lineageMerged(
  state: State,
  event: Extract<Event, { type: "LineageMerged" }>,
): State {
  let merged = event.deleted.reduce(deleted, state);
  let { customModelCards, metaInstances, instanceLinks, stamps } = merged;
  for (const { stamp, modelCard } of event.modelCards) {
    customModelCards = put(customModelCards, modelCard.modelId, modelCard);
    stamps = put(stamps, `card:${modelCard.modelId}`, stamp);
  }
  for (const { stamp, metaInstance } of event.metaInstances) {
    metaInstances = put(metaInstances, metaInstance.metaInstanceId, metaInstance);
    stamps = put(stamps, `meta:${metaInstance.metaInstanceId}`, stamp);
  }
  for (const { stamp, link } of event.links) {
    instanceLinks = put(instanceLinks, link.linkId, link);
    stamps = put(stamps, `link:${link.linkId}`, stamp);
  }
  merged = { ...merged, customModelCards, metaInstances, instanceLinks, stamps };
  for (const { stamp, instance } of event.instances) {
    merged = instanceCreated(merged, instance, stamp);
  }
  return { ...merged, lineage: withBranch(merged.lineage, event.segments) };
}

/** How a thing of each kind goes that the other side had deleted. */
const DELETE: Readonly<Record<IntentKind, (state: State, id: string) => State>> = {
  instance: (state, id) => instanceDeleted(cancelled(state, id), id as InstanceId, undefined),
  meta: (state, id) => ({
    ...state,
    metaInstances: drop(state.metaInstances, id as MetaInstanceId),
  }),
  link: (state, id) => ({
    ...state,
    instanceLinks: drop(state.instanceLinks, id as InstanceLinkId),
  }),
  card: (state, id) => customModelCardDeleted(state, id as ModelId),
};

function deleted(state: State, key: IntentKey): State {
  const { kind, id } = partsOf(key);
  const without = DELETE[kind](state, id);
  return { ...without, stamps: drop(without.stamps, key) };
}

function cancelled(state: State, instanceId: string): State {
  let { tasks } = state;
  for (const task of state.tasks.values()) {
    if (task.instanceId !== instanceId || !isInFlight(task)) continue;
    tasks = put(tasks, task.taskId, { ...task, taskStatus: "Cancelled" });
  }
  return { ...state, tasks };
}

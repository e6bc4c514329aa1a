import { instanceDeleted } from "./apply_instances.ts";
import { assert } from "./errors.ts";
import type { Event, IntentKey } from "./events.ts";
import type { InstanceId, InstanceLinkId, MetaInstanceId, ModelId } from "./ids.ts";
import { withBranch } from "./lineage.ts";
import { drop, put, type State } from "./state.ts";
import { isInFlight } from "./task.ts";

/** What the other side of a partition was asked for, under its old ids and stamps (D15). */
export function lineageMerged(
  state: State,
  event: Extract<Event, { type: "LineageMerged" }>,
): State {
  let merged = event.deleted.reduce(deleted, state);
  let { customModelCards, metaInstances, instances, instanceLinks, stamps } = merged;
  for (const { stamp, modelCard } of event.modelCards) {
    customModelCards = put(customModelCards, modelCard.modelId, modelCard);
    stamps = put(stamps, `card:${modelCard.modelId}`, stamp);
  }
  for (const { stamp, metaInstance } of event.metaInstances) {
    metaInstances = put(metaInstances, metaInstance.metaInstanceId, metaInstance);
    stamps = put(stamps, `meta:${metaInstance.metaInstanceId}`, stamp);
  }
  for (const { stamp, instance } of event.instances) {
    instances = put(instances, instance.instanceId, instance);
    stamps = put(stamps, `instance:${instance.instanceId}`, stamp);
  }
  for (const { stamp, link } of event.links) {
    instanceLinks = put(instanceLinks, link.linkId, link);
    stamps = put(stamps, `link:${link.linkId}`, stamp);
  }
  merged = { ...merged, customModelCards, metaInstances, instances, instanceLinks, stamps };
  return { ...merged, lineage: withBranch(merged.lineage, event.segments) };
}

/** Without a thing that the other side had deleted, and the work that it was doing. */
function deleted(state: State, key: IntentKey): State {
  const [kind, ...parts] = key.split(":");
  const id = parts.join(":");
  const stamps = drop(state.stamps, key);
  if (kind === "instance") {
    return instanceDeleted(cancelled(state, id), id as InstanceId, undefined);
  }
  if (kind === "meta") {
    return { ...state, stamps, metaInstances: drop(state.metaInstances, id as MetaInstanceId) };
  }
  if (kind === "link") {
    return { ...state, stamps, instanceLinks: drop(state.instanceLinks, id as InstanceLinkId) };
  }
  assert(kind === "card", `an intent of the kind ${kind}`);
  return { ...state, stamps, customModelCards: drop(state.customModelCards, id as ModelId) };
}

function cancelled(state: State, instanceId: string): State {
  let { tasks } = state;
  for (const task of state.tasks.values()) {
    if (task.instanceId !== instanceId || !isInFlight(task)) continue;
    tasks = put(tasks, task.taskId, { ...task, taskStatus: "Cancelled" });
  }
  return { ...state, tasks };
}

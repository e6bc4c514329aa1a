import type { Event } from "./events.ts";
import type { MetaInstanceId } from "./ids.ts";
import type { Instance } from "./instance.ts";
import { nodesOf } from "./instance_health.ts";
import { instanceEnd, isReady } from "./master.ts";
import type { MetaInstance } from "./meta_instance.ts";
import { type MetaInstancesContext, placeUnsatisfied } from "./meta_instance_placement.ts";
import type { State } from "./state.ts";

/**
 * MetaInstance: one instance for each wish. What is too much goes first, then it is noted how the
 * wishes fare, then those without an instance get one if there is a place.
 */
export function reconcileMetaInstances(state: State, context: MetaInstancesContext): Event[] {
  const bound = boundInstances(state);
  const surplus = surplusOf(state, bound);
  if (surplus.length > 0) return surplus;
  const phases = phasesOf(state, bound);
  return phases.length > 0 ? phases : placeUnsatisfied(state, context);
}

/** Whether an instance is what a wish asks for: its model, its size and its pinned nodes. */
export function satisfies(meta: MetaInstance, instance: Instance): boolean {
  const nodes = nodesOf(instance);
  return instance.shardAssignments.modelId === meta.modelId && nodes.length >= meta.minNodes &&
    (meta.nodeIds ?? []).every((nodeId) => nodes.includes(nodeId));
}

type Bound = ReadonlyMap<MetaInstanceId, readonly Instance[]>;

function boundInstances(state: State): Bound {
  const bound = new Map<MetaInstanceId, Instance[]>();
  for (const instance of state.instances.values()) {
    const { metaInstanceId } = instance;
    if (metaInstanceId === undefined) continue;
    const others = bound.get(metaInstanceId);
    if (others) others.push(instance);
    else bound.set(metaInstanceId, [instance]);
  }
  return bound;
}

/** Instances whose wish is gone, and all but the best where a merge has left a wish several. */
function surplusOf(state: State, bound: Bound): Event[] {
  return [...bound].flatMap(([metaInstanceId, instances]) => {
    const meta = state.metaInstances.get(metaInstanceId);
    return (meta ? byWorth(state, meta, instances).slice(1) : instances)
      .flatMap(({ instanceId }) => instanceEnd(state, instanceId));
  });
}

/** Those that serve first, then those that are all that was wished for, then the older ones. */
function byWorth(
  state: State,
  meta: MetaInstance,
  instances: readonly Instance[],
): readonly Instance[] {
  if (instances.length === 1) return instances;
  const worth = (instance: Instance) =>
    2 * Number(isReady(state, instance)) + Number(satisfies(meta, instance));
  return instances.toSorted((a, b) => worth(b) - worth(a));
}

/** Wishes whose instance has come to serve, and parked ones that a change of nodes arms again. */
function phasesOf(state: State, bound: Bound): Event[] {
  const events: Event[] = [];
  for (const { metaInstanceId, phase, parkedAtTopologyIdx } of state.metaInstances.values()) {
    if (phase === "ready") continue;
    if (bound.get(metaInstanceId)?.some((instance) => isReady(state, instance))) {
      events.push({ type: "MetaInstanceReady", metaInstanceId });
    } else if (phase === "parked" && parkedAtTopologyIdx !== state.topologyIdx) {
      events.push({ type: "MetaInstanceRearmed", metaInstanceId });
    }
  }
  return events;
}

import type { Event } from "./events.ts";
import type { MetaInstanceId, RunnerId } from "./ids.ts";
import { runnersOf } from "./instance.ts";
import type { MetaInstance } from "./meta_instance.ts";
import { put, type State } from "./state.ts";

type MetaEvent = Extract<Event, {
  type:
    | "MetaInstanceCardResolved"
    | "MetaInstancePlacementFailed"
    | "MetaInstanceReady"
    | "MetaInstanceParked"
    | "MetaInstanceRearmed";
}>;

/** The state with a meta-instance changed; itself when there is none of that id. */
export function withMeta(
  state: State,
  id: MetaInstanceId | undefined,
  change: (meta: MetaInstance) => MetaInstance,
): State {
  const meta = id === undefined ? undefined : state.metaInstances.get(id);
  if (!meta) return state;
  const metaInstances = put(state.metaInstances, meta.metaInstanceId, change(meta));
  return { ...state, metaInstances };
}

/** A wish whose runner serves no more, as when its node starts again: its instance starts anew. */
export function noLongerServed(state: State, runnerId: RunnerId): State {
  const instance = [...state.instances.values()].find((one) => runnersOf(one).includes(runnerId));
  return withMeta(state, instance?.metaInstanceId, (meta) => (
    { ...meta, phase: meta.phase === "ready" ? "starting" : meta.phase }
  ));
}

/** How a meta-instance fares; one that is gone is not missed. */
export function updateMeta(state: State, event: MetaEvent): State {
  const changed = withMeta(state, event.metaInstanceId, (meta) => reduce(state, meta, event));
  return event.type === "MetaInstanceRearmed"
    ? withoutWait(changed, event.metaInstanceId)
    : changed;
}

function reduce(state: State, meta: MetaInstance, event: MetaEvent): MetaInstance {
  switch (event.type) {
    case "MetaInstanceCardResolved":
      return { ...meta, modelCard: event.modelCard };
    case "MetaInstancePlacementFailed":
      return { ...meta, placementError: event.reason };
    case "MetaInstanceReady": {
      const { nextAttemptAt: _, ...rest } = meta;
      return { ...rest, phase: "ready" };
    }
    case "MetaInstanceParked": {
      const { nextAttemptAt: _, ...rest } = meta;
      const parkedAtTopologyIdx = state.topologyIdx;
      return { ...rest, phase: "parked", lastFailureError: event.reason, parkedAtTopologyIdx };
    }
    case "MetaInstanceRearmed": {
      const { nextAttemptAt: _, parkedAtTopologyIdx: __, ...rest } = meta;
      const phase = instancesOf(state, meta.metaInstanceId) > 0 ? "starting" : "placing";
      return { ...rest, phase, consecutiveFailures: 0 };
    }
    // deno-coverage-ignore-start
    default:
      return event satisfies never;
      // deno-coverage-ignore-stop
  }
}

function instancesOf(state: State, id: MetaInstanceId): number {
  return [...state.instances.values()].filter(({ metaInstanceId }) => metaInstanceId === id).length;
}

/** Its instance is tried again at once; which processes have failed stays known. */
function withoutWait(state: State, id: MetaInstanceId): State {
  let { instanceRetries } = state;
  for (const { instanceId, metaInstanceId } of state.instances.values()) {
    const retry = instanceRetries.get(instanceId);
    if (metaInstanceId !== id || !retry) continue;
    instanceRetries = put(instanceRetries, instanceId, { ...retry, attempts: 0, notBefore: 0 });
  }
  return { ...state, instanceRetries };
}

import { withMeta } from "./apply_meta_instances.ts";
import { withoutWaitOf } from "./apply_models.ts";
import type { Event } from "./events.ts";
import type { InstanceId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { Stamp } from "./lineage.ts";
import { withPorts } from "./ports.ts";
import { withAddresses } from "./rank_addresses.ts";
import { drop, type InstanceRetry, put, type State } from "./state.ts";

/** A new instance; the wish that it is for has a place again, and keeps what went wrong before. */
export function instanceCreated(state: State, instance: Instance, stamp: Stamp): State {
  const { instanceId, metaInstanceId } = instance;
  const created = {
    ...state,
    instances: put(state.instances, instanceId, instance),
    stamps: put(state.stamps, `instance:${instanceId}`, stamp),
  };
  return withMeta(created, metaInstanceId, (meta) => {
    const { placementError: _, nextAttemptAt: __, ...rest } = meta;
    return { ...rest, phase: "starting", instancesCreated: meta.instancesCreated + 1 };
  });
}

/** An instance leaves with everything that only it owned. */
export function instanceDeleted(
  state: State,
  instanceId: InstanceId,
  failureError: string | undefined,
): State {
  const instance = state.instances.get(instanceId);
  if (!instance) return state;
  const deleted = {
    ...state,
    instances: drop(state.instances, instanceId),
    instanceRetries: drop(state.instanceRetries, instanceId),
    runners: drop(state.runners, ...runnersOf(instance)),
    stamps: drop(state.stamps, `instance:${instanceId}`),
  };
  const unlinked = withoutLinkEnds(withoutWaitOf(deleted, instance), instanceId);
  return withMeta(unlinked, instance.metaInstanceId, (meta) => {
    const { nextAttemptAt: _, ...rest } = meta;
    const phase = meta.phase === "parked" ? "parked" as const : "placing" as const;
    if (!failureError) return { ...rest, phase };
    const consecutiveFailures = meta.consecutiveFailures + 1;
    return { ...rest, phase, consecutiveFailures, lastFailureError: failureError };
  });
}

/** All runners of the instance are forgotten; their nodes make new ones from `notBefore` on. */
export function instanceRetrying(
  state: State,
  event: Extract<Event, { type: "InstanceRetrying" }>,
): State {
  const { instanceId, failureError, notBefore, ports = [], addresses = [] } = event;
  const instance = state.instances.get(instanceId);
  if (!instance) return state;
  const before = state.instanceRetries.get(instanceId);
  const runners = runnersOf(instance);
  const seen = runners.flatMap((id) => {
    const incarnation = state.runners.get(id)?.incarnation;
    return incarnation === undefined ? [] : [[id, incarnation]];
  });
  const retry: InstanceRetry = {
    attempts: (before?.attempts ?? 0) + 1,
    notBefore,
    lastError: failureError,
    incarnations: { ...before?.incarnations, ...Object.fromEntries(seen) },
  };
  const retrying = {
    ...state,
    instances: put(
      state.instances,
      instanceId,
      withPorts(withAddresses(instance, addresses), ports),
    ),
    instanceRetries: put(state.instanceRetries, instanceId, retry),
    runners: drop(state.runners, ...runners),
  };
  return withMeta(retrying, instance.metaInstanceId, (meta) => ({
    ...meta,
    phase: "retrying",
    consecutiveFailures: meta.consecutiveFailures + 1,
    lastFailureError: failureError,
    nextAttemptAt: notBefore,
  }));
}

/** A long time of service: the failures before it are forgotten. */
export function retriesReset(state: State, instanceId: InstanceId): State {
  const metaInstanceId = state.instances.get(instanceId)?.metaInstanceId;
  const reset = { ...state, instanceRetries: drop(state.instanceRetries, instanceId) };
  return withMeta(reset, metaInstanceId, (meta) => ({ ...meta, consecutiveFailures: 0 }));
}

/** A link goes with the last instance at one of its ends. */
function withoutLinkEnds(state: State, instanceId: InstanceId): State {
  let { instanceLinks, stamps } = state;
  for (const [linkId, link] of state.instanceLinks) {
    const without = (ids: readonly InstanceId[]) => ids.filter((id) => id !== instanceId);
    const prefillInstances = without(link.prefillInstances);
    const decodeInstances = without(link.decodeInstances);
    if (prefillInstances.length === 0 || decodeInstances.length === 0) {
      instanceLinks = drop(instanceLinks, linkId);
      stamps = drop(stamps, `link:${linkId}`);
    } else if (
      prefillInstances.length < link.prefillInstances.length ||
      decodeInstances.length < link.decodeInstances.length
    ) {
      instanceLinks = put(instanceLinks, linkId, { ...link, prefillInstances, decodeInstances });
    }
  }
  return { ...state, instanceLinks, stamps };
}

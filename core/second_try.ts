import type { InstanceId, ModelId, NodeId, RunnerId } from "./ids.ts";
import { type Instance, nodesByRank, runnersOf } from "./instance.ts";
import { isReady } from "./master_instances.ts";
import { isPrefillOnly } from "./prefill_source.ts";
import type { State } from "./state.ts";

/** An instance as it was when it was given a request. */
export interface GivenTo {
  readonly instanceId: InstanceId;
  /** Those of its runners that the state has. */
  readonly incarnations: ReadonlyMap<RunnerId, number>;
}

/**
 * Who may answer a request that an instance has failed. `ready`: another one, or the same made anew.
 * `same`: it alone, of which nobody has said that anything is wrong. `later`: one that is being made,
 * or cannot be reached. `nobody`: there is none, and none is wanted.
 */
export type Outlook = "ready" | "same" | "later" | "nobody";

/** What is known of an instance's runners now. */
export function givenTo(state: State, instanceId: InstanceId): GivenTo {
  const instance = state.instances.get(instanceId);
  const incarnations = new Map<RunnerId, number>();
  for (const id of instance ? runnersOf(instance) : []) {
    const runner = state.runners.get(id);
    if (runner) incarnations.set(id, runner.incarnation);
  }
  return { instanceId, incarnations };
}

/** Who may answer what `failed` has not; instances are reached at the nodes of their first ranks. */
export function outlookOf(
  state: State,
  { modelId, failed, isReachable }: {
    readonly modelId: ModelId;
    readonly failed: GivenTo;
    readonly isReachable: (nodeId: NodeId) => boolean;
  },
): Outlook {
  const candidates = [...state.instances.values()].filter(({ instanceId, shardAssignments }) =>
    shardAssignments.modelId === modelId && !isPrefillOnly(state, instanceId)
  );
  const ready = candidates.filter((instance) =>
    isReady(state, instance) && nodesByRank(instance).slice(0, 1).every(isReachable)
  );
  if (ready.some((instance) => !isAsItWas(state, instance, failed))) return "ready";
  if (ready.length > 0) return "same";
  const isWanted = [...state.metaInstances.values()]
    .some((meta) => meta.modelId === modelId && meta.phase !== "parked" && !meta.placementError);
  return candidates.length > 0 || isWanted ? "later" : "nobody";
}

function isAsItWas(state: State, instance: Instance, failed: GivenTo): boolean {
  return instance.instanceId === failed.instanceId &&
    runnersOf(instance).every((id) =>
      state.runners.get(id)?.incarnation === failed.incarnations.get(id)
    );
}

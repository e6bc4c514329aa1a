import type { InstanceId, RunnerId } from "../core/ids.ts";
import type { Instance } from "../core/instance.ts";
import type { MetaInstance } from "../core/meta_instance.ts";
import type { State } from "../core/state.ts";
import { externalTags, type Json } from "./encode_state.ts";
import { progressOf, type RunnerProgress, type WaitPhase } from "./instance_wait.ts";

/** What is known of a meta-instance beside what is stored of it. */
export interface MetaInstanceDetail {
  /** The instance that is bound to it; absent while there is none. */
  readonly instanceId?: InstanceId;
  /** How far that instance is, while it starts. */
  readonly detail?: WaitPhase;
  /** What its runners are doing, while it starts. */
  readonly runners?: Readonly<Record<RunnerId, RunnerProgress>>;
}

/** The instance that was made for a meta-instance and is still there. */
export function boundInstance(
  state: State,
  { metaInstanceId }: Pick<MetaInstance, "metaInstanceId">,
): Instance | undefined {
  return [...state.instances.values()].find((one) => one.metaInstanceId === metaInstanceId);
}

/** A meta-instance as `/meta_instances` shows it: as it is stored, with how its instance fares. */
export function encodeMetaInstance(state: State, metaInstance: MetaInstance): Json {
  return externalTags({ ...metaInstance, ...detailOf(state, metaInstance) });
}

function detailOf(state: State, metaInstance: MetaInstance): MetaInstanceDetail {
  const instance = boundInstance(state, metaInstance);
  if (!instance) return {};
  const { instanceId } = instance;
  if (!["starting", "retrying"].includes(metaInstance.phase)) return { instanceId };
  const { phase: detail, runners } = progressOf(state, instance);
  return { instanceId, detail, runners };
}

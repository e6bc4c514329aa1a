import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { InstanceId, MetaInstanceId, ModelId, NodeId } from "./ids.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** What a decision needs beyond the state. */
export interface DecideContext {
  readonly telemetry: Telemetry;
  readonly now: Millis;
  /** Whether the master has heard of a node within `FOLLOWER_LIVE_MS`, or is it. */
  readonly isHeard: (nodeId: NodeId) => boolean;
}

/** What a command makes happen, and what the asker may be told beside the index. */
export interface Decision {
  readonly events: readonly Event[];
  readonly instanceId?: InstanceId;
  readonly metaInstanceId?: MetaInstanceId;
}

/** Known models that an error names. */
const MODELS_NAMED = 5;

/** That nobody knows a model. */
export function modelNotFound(state: State, modelId: ModelId): AppError {
  const known = [...state.customModelCards.keys()].slice(0, MODELS_NAMED).join(", ");
  return new AppError("model_not_found", `Model "${modelId}" is not known`, {
    hint: known ? `known models: ${known}` : "exo models add PATH registers a local model",
  });
}

/** That there is no instance of this id. */
export function instanceNotFound(instanceId: InstanceId): AppError {
  return new AppError("instance_not_found", `Instance "${instanceId}" not found`, {
    hint: "exo instance list shows what there is",
  });
}

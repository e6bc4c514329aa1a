import type { Command } from "./commands.ts";
import { refuseContradiction } from "./contradictions.ts";
import type { Decision } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { InstanceId, MetaInstanceId } from "./ids.ts";
import { idTaken, instanceEnd } from "./master_instances.ts";
import { type MetaInstance, MetaInstanceSpec } from "./meta_instance.ts";
import type { ModelCard } from "./model_card.ts";
import { place } from "./placement.ts";
import type { PlacementRequest } from "./placement_request.ts";
import { isSame } from "./same.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Why a wish for a model is not fulfilled that nobody could be asked about yet. */
const NO_CARD = "Failed to load model card: nobody could be asked for it";

/**
 * Keeps a wish, and fulfils it in the same decision where that is possible, so that the asker
 * learns at once how it stands. The same wish again is content with the first.
 */
export function createMetaInstance(
  state: State,
  command: Extract<Command, { type: "CreateMetaInstance" }>,
  telemetry: Telemetry,
): Decision {
  const { metaInstance: spec, instanceId, modelCard } = command;
  const { metaInstanceId, modelId } = spec;
  const wanted = `Cannot create meta-instance "${metaInstanceId}"`;
  const present = state.metaInstances.get(metaInstanceId);
  if (present && isSame(MetaInstanceSpec.parse(present), spec)) {
    return { events: [], metaInstanceId };
  }
  if (present) {
    const found = "one of that id exists with another wish, a new id needed";
    throw new AppError("conflict", `${wanted}: ${found}`, {
      hint: `choose another id, or remove that one: exo meta-instance delete ${metaInstanceId}`,
    });
  }
  if (state.instances.has(instanceId)) throw idTaken(wanted, instanceId);
  const card = state.customModelCards.get(modelId) ?? modelCard;
  refuseContradiction(spec, card);
  const meta: MetaInstance = {
    ...spec,
    phase: "placing",
    consecutiveFailures: 0,
    instancesCreated: 0,
    ...(card ? { modelCard: card } : {}),
  };
  const created: Event = { type: "MetaInstanceCreated", metaInstance: meta };
  const next = card
    ? placeFor(state, telemetry, { meta, card, instanceId })
    : [placementFailed(metaInstanceId, NO_CARD)];
  return { events: [created, ...next], metaInstanceId };
}

/** The instance that a wish gets now, or why there is none; nothing when that is known already. */
export function placeFor(
  state: State,
  telemetry: Telemetry,
  { meta, card, instanceId }: { meta: MetaInstance; card: ModelCard; instanceId: InstanceId },
): Event[] {
  const { metaInstanceId } = meta;
  const placed = place(state, telemetry, { instanceId, card, request: requestOf(state, meta) });
  if (placed.ok) {
    return [{ type: "InstanceCreated", instance: { ...placed.instance, metaInstanceId } }];
  }
  return placed.reason === meta.placementError
    ? []
    : [placementFailed(metaInstanceId, placed.reason)];
}

function placementFailed(metaInstanceId: MetaInstanceId, reason: string): Event {
  return { type: "MetaInstancePlacementFailed", metaInstanceId, reason };
}

/**
 * What is asked of placement for a wish now: unless its pin is strict, pinned nodes that are away
 * are left out; when all of them are, any nodes will do.
 */
export function requestOf({ nodes }: State, meta: MetaInstance): PlacementRequest {
  const { nodeIds, exact, ...rest } = meta;
  if (meta.pin === "strict" || !nodeIds) return meta;
  const live = nodeIds.filter((id) => nodes.has(id));
  if (live.length === 0) return rest;
  return { ...rest, nodeIds: live, ...(exact === undefined ? {} : { exact }) };
}

/** Ends a wish and all that was made for it, in one decision. */
export function deleteMetaInstance(state: State, metaInstanceId: MetaInstanceId): Decision {
  if (!state.metaInstances.has(metaInstanceId)) throw metaInstanceNotFound(state, metaInstanceId);
  const bound = [...state.instances.values()]
    .filter((instance) => instance.metaInstanceId === metaInstanceId);
  const ends = bound.flatMap(({ instanceId }) => instanceEnd(state, instanceId));
  return { events: [{ type: "MetaInstanceDeleted", metaInstanceId }, ...ends], metaInstanceId };
}

/** Tries again at once what is parked or waits; anything else is being tried as it is. */
export function retryMetaInstance(state: State, metaInstanceId: MetaInstanceId): Decision {
  const meta = state.metaInstances.get(metaInstanceId);
  if (!meta) throw metaInstanceNotFound(state, metaInstanceId);
  const waits = meta.phase === "parked" || meta.phase === "retrying";
  return { events: waits ? [{ type: "MetaInstanceRearmed", metaInstanceId }] : [], metaInstanceId };
}

function metaInstanceNotFound(state: State, metaInstanceId: MetaInstanceId): AppError {
  const known = [...state.metaInstances.keys()].join(", ") || "none";
  return new AppError("not_found", `Meta-instance "${metaInstanceId}" not found`, {
    hint: `meta-instances: ${known}`,
  });
}

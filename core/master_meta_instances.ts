import type { Command } from "./commands.ts";
import { refuseContradiction } from "./contradictions.ts";
import type { Decision } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { MetaInstanceId } from "./ids.ts";
import { idTaken, instanceEnd } from "./master_instances.ts";
import { type MetaInstance, MetaInstanceSpec } from "./meta_instance.ts";
import { placeUnsatisfied } from "./meta_instance_placement.ts";
import { isSame } from "./same.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** What is known of a model that came without a card. */
const NO_CARD = { ok: false, reason: "nobody could be asked yet" } as const;

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
  const alone = { ...state, metaInstances: new Map([[metaInstanceId, meta]]) };
  const cards = new Map([[modelId, NO_CARD]]);
  const next = placeUnsatisfied(alone, { telemetry, cards, freshId: instanceId });
  return { events: [created, ...next], metaInstanceId };
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

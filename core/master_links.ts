import type { Command } from "./commands.ts";
import { type Decision, instanceNotFound } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { InstanceLinkId } from "./ids.ts";
import { isSame } from "./same.ts";
import type { State } from "./state.ts";

/** Creates or replaces a link; an equal one is left alone. */
export function setInstanceLink(
  state: State,
  { linkId, ...lists }: Extract<Command, { type: "SetInstanceLink" }>,
): Decision {
  const prefillInstances = [...new Set(lists.prefillInstances)];
  const decodeInstances = [...new Set(lists.decodeInstances)];
  const sides = Object.entries({ prefill: prefillInstances, decode: decodeInstances });
  for (const [side, ids] of sides) {
    if (ids.length > 0) continue;
    const found = `found no ${side} instance, one needed`;
    throw new AppError("invalid_request", `Cannot link as "${linkId}": ${found}`, {
      hint: `name an instance in ${side}_instances; exo instance list shows what there is`,
    });
  }
  const unknown = [...prefillInstances, ...decodeInstances]
    .find((id) => !state.instances.has(id));
  if (unknown !== undefined) throw instanceNotFound(unknown);
  const link = { linkId, prefillInstances, decodeInstances };
  if (isSame(state.instanceLinks.get(linkId), link)) return { events: [] };
  return { events: [{ type: "InstanceLinkCreated", link }] };
}

/** Takes a link away. */
export function deleteInstanceLink(state: State, linkId: InstanceLinkId): Decision {
  if (!state.instanceLinks.has(linkId)) {
    const known = [...state.instanceLinks.keys()].join(", ") || "none";
    throw new AppError("not_found", `Link "${linkId}" not found`, { hint: `links: ${known}` });
  }
  return { events: [{ type: "InstanceLinkDeleted", linkId }] };
}

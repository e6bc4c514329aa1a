import type { Command } from "./commands.ts";
import { type Decision, modelNotFound } from "./decision.ts";
import { AppError } from "./errors.ts";
import type { Event } from "./events.ts";
import type { ModelId } from "./ids.ts";
import { isSame } from "./same.ts";
import type { State } from "./state.ts";

/** Makes a model known to all nodes, and that one of them has it, as long as that one is there. */
export function addModelCard(
  state: State,
  { modelCard, holder }: Extract<Command, { type: "AddCustomModelCard" }>,
): Decision {
  const { modelId } = modelCard;
  const events: Event[] = [];
  if (!isSame(state.customModelCards.get(modelId), modelCard)) {
    events.push({ type: "CustomModelCardAdded", modelCard });
  }
  const isThere = holder !== undefined && state.nodes.has(holder.nodeId);
  if (isThere && !isSame(state.downloads.get(holder.nodeId)?.get(modelId), holder.status)) {
    events.push({ type: "NodeDownloadProgress", modelId, ...holder });
  }
  return { events };
}

/** Forgets a model that no instance uses. */
export function deleteModelCard(state: State, modelId: ModelId): Decision {
  if (!state.customModelCards.has(modelId)) throw modelNotFound(state, modelId);
  const user = [...state.instances.values()]
    .find(({ shardAssignments }) => shardAssignments.modelId === modelId);
  if (user) {
    const { instanceId } = user;
    const found = `found instance ${instanceId} of it, none needed`;
    throw new AppError("conflict", `Cannot remove "${modelId}": ${found}`, {
      hint: `exo instance delete ${instanceId}`,
    });
  }
  return { events: [{ type: "CustomModelCardDeleted", modelId }] };
}

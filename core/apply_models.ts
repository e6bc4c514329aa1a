import type { DownloadStatus } from "./download.ts";
import type { ModelId, NodeId } from "./ids.ts";
import { type Instance, rankOn } from "./instance.ts";
import { drop, put, type State } from "./state.ts";

/**
 * How a node's copy of a model fares. That it has nothing of a model is worth a line only while
 * something waits for it.
 */
export function downloadProgress(
  state: State,
  { nodeId, modelId, status }: { nodeId: NodeId; modelId: ModelId; status: DownloadStatus },
): State {
  if (status.type === "DownloadPending" && !isDownloadOfUse(state, nodeId, modelId)) {
    return withoutDownload(state, nodeId, modelId);
  }
  const changed = put(state.downloads.get(nodeId) ?? new Map(), modelId, status);
  return { ...state, downloads: put(state.downloads, nodeId, changed) };
}

/** A card goes, and what nodes said of the model's files with it. */
export function customModelCardDeleted(state: State, modelId: ModelId): State {
  const deleted = {
    ...state,
    customModelCards: drop(state.customModelCards, modelId),
    stamps: drop(state.stamps, `card:${modelId}`),
  };
  return [...state.downloads.keys()].reduce(
    (left, nodeId) => withoutDownload(left, nodeId, modelId),
    deleted,
  );
}

/** Without the unfinished downloads that only an instance was waiting for which is gone now. */
export function withoutWaitOf(
  state: State,
  { shardAssignments: { modelId, nodeToRunner } }: Instance,
): State {
  return (Object.keys(nodeToRunner) as NodeId[]).reduce((left, nodeId) => {
    const status = left.downloads.get(nodeId)?.get(modelId);
    const isKept = status?.type === "DownloadCompleted" || isDownloadOfUse(left, nodeId, modelId);
    return isKept ? left : withoutDownload(left, nodeId, modelId);
  }, state);
}

/** Whether a model on a node concerns the cluster: an instance there needs it, or it has a card. */
export function isDownloadOfUse(state: State, nodeId: NodeId, modelId: ModelId): boolean {
  return state.customModelCards.has(modelId) ||
    [...state.instances.values()].some((instance) =>
      instance.shardAssignments.modelId === modelId && rankOn(instance, nodeId) !== undefined
    );
}

function withoutDownload(state: State, nodeId: NodeId, modelId: ModelId): State {
  const models = state.downloads.get(nodeId) ?? new Map<ModelId, DownloadStatus>();
  const rest = drop(models, modelId);
  const downloads = rest.size === 0
    ? drop(state.downloads, nodeId)
    : put(state.downloads, nodeId, rest);
  return rest === models ? state : { ...state, downloads };
}

import type { NodeId } from "../core/ids.ts";
import { type Instance, rankOn } from "../core/instance.ts";

/** The layers that a node would have. */
export interface PreviewShard {
  readonly nodeId: string;
  readonly startLayer: number;
  readonly endLayer: number;
  readonly deviceRank: number;
}

/** What each of `nodeIds` would have of an instance, by rank. */
export function previewShards(instance: Instance, nodeIds: readonly NodeId[]): PreviewShard[] {
  return nodeIds.flatMap((nodeId) => {
    const rank = rankOn(instance, nodeId);
    if (!rank) return [];
    const { startLayer, endLayer, deviceRank } = rank.shard;
    return [{ nodeId, startLayer, endLayer, deviceRank }];
  });
}

import { InstanceId } from "./ids.ts";
import type { InstanceMeta, Sharding } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
import { place, type Placed, type Rejection } from "./placement.ts";
import type { PlacementRequest } from "./placement_request.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

export interface Previews {
  readonly placements: readonly Placed[];
  readonly rejected: readonly Rejection[];
}

export function previews(
  state: State,
  telemetry: Telemetry,
  { card, request, shardings = ["Pipeline", "Tensor"], instanceMetas = ["MlxRing", "MlxJaccl"] }: {
    readonly card: ModelCard;
    readonly request: PlacementRequest;
    readonly shardings?: readonly Sharding[] | undefined;
    readonly instanceMetas?: readonly InstanceMeta[] | undefined;
  },
): Previews {
  const placements: Placed[] = [];
  const rejected: Rejection[] = [];
  const seen = new Set<string>();
  for (const sharding of shardings) {
    for (const instanceMeta of instanceMetas) {
      for (let minNodes = request.minNodes; minNodes <= state.nodes.size; minNodes++) {
        const one = place(state, telemetry, {
          instanceId: InstanceId.parse(`preview-${placements.length}`),
          card,
          request: { ...request, sharding, instanceMeta, minNodes },
        });
        if (!one.ok) {
          const kind = { sharding, instanceMeta };
          rejected.push({ reason: one.reason, nodeIds: [], ...kind }, ...one.rejected);
          break;
        }
        const key = `${one.sharding} ${one.instanceMeta} ${one.nodeIds.join()}`;
        if (!seen.has(key)) placements.push(one);
        seen.add(key);
      }
    }
  }
  return { placements, rejected };
}

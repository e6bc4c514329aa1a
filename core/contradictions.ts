import { AppError } from "./errors.ts";
import type { NodeId } from "./ids.ts";
import type { ModelCard } from "./model_card.ts";
import type { PlacementRequest } from "./placement_request.ts";

/** What contradicts itself, and what to do about it. */
type Contradiction = readonly [found: string, hint: string];

/**
 * Refuses what no cluster could fulfil, whatever its nodes.
 * @throws {AppError} naming what contradicts what.
 */
export function refuseContradiction(request: PlacementRequest, card?: ModelCard): void {
  const contradiction = amongNodes(request) ?? inLayers(request, card);
  if (!contradiction) return;
  const [found, hint] = contradiction;
  throw new AppError("invalid_request", `Cannot place "${request.modelId}": ${found}`, { hint });
}

function amongNodes(request: PlacementRequest): Contradiction | undefined {
  const { nodeIds = [], exact, minNodes, excludedNodeIds = [], nodeLayers = {} } = request;
  const divided = Object.keys(nodeLayers) as NodeId[];
  const named = new Set(nodeIds);
  const both = [...named, ...divided].find((id) => excludedNodeIds.includes(id));
  if (both !== undefined) {
    return [
      `node ${both} is both wanted and excluded, one of them needed`,
      `leave ${both} out of excluded_node_ids (--exclude)`,
    ];
  }
  if (!exact) return undefined;
  if (named.size === 0) {
    return [
      "exactly the given nodes are wanted and none is given, one needed",
      "name nodes in node_ids (--node), or leave exact (--exact) out",
    ];
  }
  if (minNodes > named.size) {
    return [
      `exactly the given nodes are wanted, found ${named.size}, at least ${minNodes} needed`,
      `lower min_nodes (--min-nodes) to ${named.size}, or leave exact (--exact) out`,
    ];
  }
  const other = divided.find((id) => !named.has(id));
  return other === undefined ? undefined : [
    `node ${other} gets layers and is not given, one of the given nodes needed`,
    `name ${other} in node_ids (--node), too`,
  ];
}

function inLayers(
  { nodeLayers, sharding, nodeIds }: PlacementRequest,
  card: ModelCard | undefined,
): Contradiction | undefined {
  if (!nodeLayers) return undefined;
  if (sharding === "Tensor") {
    return [
      "layers are divided by hand and Tensor sharding is wanted, Pipeline needed",
      "leave node_layers (--layers) out, or choose Pipeline (--sharding pipeline)",
    ];
  }
  const without = nodeIds?.find((id) => nodeLayers[id] === undefined);
  if (without !== undefined) {
    return [
      `node ${without} is wanted and gets no layers, some needed`,
      `give ${without} layers in node_layers (--layers), too`,
    ];
  }
  const sum = Object.values(nodeLayers).reduce((sum, layers) => sum + layers, 0);
  if (!card || sum === card.nLayers) return undefined;
  return [
    `${sum} layers are divided by hand, ${card.nLayers} needed`,
    `divide ${card.nLayers} layers in node_layers (--layers)`,
  ];
}

import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { type PlaceInput, placementBody } from "../api/client_placement.ts";
import { namedNodes } from "../api/node_names.ts";
import { parse } from "../api/errors.ts";
import { PLACEMENT_FIELDS, placementRequest } from "../api/placement_body.ts";
import { directories, resourcesDirectory } from "../core/directories.ts";
import { AppError } from "../core/errors.ts";
import { InstanceId } from "../core/ids.ts";
import { matchModel, type ModelCard } from "../core/model_card.ts";
import { previews } from "../core/previews.ts";
import { stateOfTopologyFile } from "../core/topology_file.ts";
import { loadModelCards } from "../node/model_cards.ts";
import { systemReason } from "../node/system_error.ts";
import type { Io } from "./io.ts";
import { placementJson, type Previews } from "./place_view.ts";
import { nearModels } from "./suggest.ts";
import { VERSION } from "./version.ts";

/** Largest file that is read as a topology: what the most nodes and links take. */
const TOPOLOGY_BYTES_MAX = 64 * 1024 * 1024;

/** The id of instances that are never made. */
const ON_PAPER = InstanceId.parse("paper");

/** Most names that a hint suggests. */
const NAMES_MAX = 5;

/**
 * Where a model could go in the cluster that a file describes; no node is asked.
 * @throws {AppError} why the file, the model or a node's name cannot be used.
 */
export async function previewsOnPaper(
  input: PlaceInput,
  file: string,
  io: Io,
): Promise<Previews> {
  const read = stateOfTopologyFile(await readTopology(resolve(io.cwd, file), file));
  if (!read.ok) throw AppError.from(read.error);
  const { state, telemetry } = read;
  const card = await cardNamed(input.model, io);
  const nodes = namedNodes(state);
  const { sharding, instanceMeta } = input;
  const fields = parse(z.strictObject(PLACEMENT_FIELDS), placementBody(input));
  const found = previews(state, telemetry, {
    card,
    request: placementRequest(fields, card.modelId, nodes),
    instanceId: ON_PAPER,
    ...(sharding ? { shardings: [sharding] } : {}),
    ...(instanceMeta ? { instanceMetas: [instanceMeta] } : {}),
  });
  const placements = found.placements.map((preview) => {
    const { sharding, instanceMeta, nodeIds, shards, contextTokens, shortages } = preview;
    const memoryBytesByNode = Object.fromEntries(preview.memoryBytesByNode);
    const placement = { sharding, instanceMeta, nodeIds, shards, memoryBytesByNode };
    return placementJson({ ...placement, contextTokens, shortages });
  });
  const rejected = found.rejected.map(({ reason, nodeIds, sharding, instanceMeta }) => (
    { reason, nodeIds, sharding, instanceMeta }
  ));
  return {
    json: { placements, rejected },
    names: new Map(nodes.map(({ nodeId, name }) => [nodeId, name])),
  };
}

/** @throws {AppError} `not_found` or `invalid_request` with what was found in its place. */
async function readTopology(path: string, file: string): Promise<unknown> {
  const wanted = `Cannot read the topology "${file}"`;
  const hint = "exo place --help shows what a topology file holds";
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > TOPOLOGY_BYTES_MAX) {
      const found = `${size} bytes, ${TOPOLOGY_BYTES_MAX} at most possible`;
      throw new AppError("invalid_request", `${wanted}: found ${found}`, { hint });
    }
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const found = `${systemReason(cause)}, a file of JSON needed`;
    throw new AppError("not_found", `${wanted}: ${found}`, { hint, cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = `${cause instanceof Error ? cause.message : cause}, JSON needed`;
    throw new AppError("invalid_request", `${wanted}: ${found}`, { hint, cause });
  }
}

/** The card that a name means, among those that exo brings and the user's own. */
async function cardNamed(wanted: string, io: Io): Promise<ModelCard> {
  const { cards } = await loadModelCards({
    resourcesDir: resourcesDirectory(io),
    customDir: join(directories(io).data, "custom_model_cards"),
    exoVersion: VERSION,
  });
  const { modelId, candidates } = matchModel(wanted, cards.keys());
  const card = modelId && cards.get(modelId);
  if (card) return card;
  const near = candidates.length > 0 ? candidates : nearModels(wanted, [...cards.keys()]);
  throw new AppError("model_not_found", `No card of model "${wanted}" found`, {
    hint: near.length === 0
      ? "exo models list shows the models of a node; without one, those that exo brings are known"
      : `it could be ${near.slice(0, NAMES_MAX).join(", ")}`,
    param: "model",
  });
}

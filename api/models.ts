import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import {
  isImageModel,
  matchModel,
  type ModelCard,
  normalizedId,
  shortName,
} from "../core/model_card.ts";
import { KNOWN_ARCHITECTURES } from "../core/safetensors.ts";
import { MIB } from "../core/units.ts";
import { readJson } from "./body.ts";
import { parse } from "./errors.ts";
import { isLoopback } from "./guard.ts";
import type { Gateway } from "./gateway.ts";
import { cardsOf, findModel, holders, placedModels } from "./resolve.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";

/** `created` of every model: cards have no date, and a value that changes breaks caches. */
const CREATED_S = Date.UTC(2025, 0, 1) / 1000;

/** A model as clients of OpenAI list it, with what exo knows beside. */
export interface ModelObject {
  readonly id: ModelId;
  readonly object: "model";
  readonly created: number;
  readonly owned_by: "exo";
  readonly hugging_face_id: string;
  readonly name: string;
  readonly description: string;
  readonly context_length: number;
  readonly tags: readonly string[];
  readonly storage_size_megabytes: number;
  readonly storage_size_bytes: number;
  readonly supports_tensor: boolean;
  readonly tasks: readonly string[];
  readonly is_custom: boolean;
  readonly family: string;
  readonly quantization: string;
  readonly base_model: string;
  readonly capabilities: readonly string[];
  readonly reasoning_dialect: string;
  /** The checkpoint's `model_type`; empty when unknown. */
  readonly architecture: string;
  readonly license: string;
  /** Whether an engine of this version runs it. */
  readonly is_supported: boolean;
  /** Whether exo brings a card of it. */
  readonly is_bundled: boolean;
  /** Whether a card of the user's comes before the one that exo brings. */
  readonly shadows_bundled: boolean;
  /** Whether an instance of it exists, ready or not. */
  readonly running: boolean;
  readonly downloaded_on: readonly NodeId[];
}

/** One model with all that its card says. */
export interface ModelDetails extends ModelObject {
  readonly model_card: ModelCard;
}

/** What this knows models by. */
type Source = Pick<Gateway, "state" | "modelCards" | "bundledModels">;

const ListQuery = z.object({ status: z.enum(["downloaded"]).optional() });

const AddRequest = z.union([
  z.strictObject({ path: z.string().min(1) }),
  z.strictObject({ model_id: z.string().min(1) }),
]);

const ADD_EXAMPLES = { path: "/models/SmolLM2.gguf" };

/** Lists, shows, adds and forgets models (spec §7). */
export function modelRoutes(router: Router, options: RouteOptions): void {
  const { gateway, limits, showsImageModels } = options;
  const list = (c: RouteContext) => {
    const { status } = parse(ListQuery, c.req.query());
    const data = [...cardsOf(gateway).values()]
      .filter((card) => showsImageModels || !isImageModel(card))
      .map((card) => modelObject(gateway, card))
      .filter(({ downloaded_on }) => status === undefined || downloaded_on.length > 0)
      .toSorted((a, b) => distanceOf(a) - distanceOf(b));
    return c.json({ object: "list", data });
  };
  router.get("/models", list);
  router.get("/v1/models", list);
  router.get("/v1/models/:id{.+}", (c) => {
    return c.json(modelDetails(gateway, findModel(gateway, c.req.param("id"))));
  });
  router.post("/models/add", async (c) => {
    const request = parse(AddRequest, await readJson(c.req.raw, limits), ADD_EXAMPLES);
    const card = await gateway.addModel(localPath(request, c, options));
    return c.json(modelDetails(gateway, card));
  });
  router.delete("/models/custom/:id{.+}", async (c) => {
    const modelId = customModel(gateway, c.req.param("id"));
    await gateway.removeModel(modelId);
    return c.json({ message: "Model card deleted", model_id: modelId });
  });
}

/** The path that a request names, if whoever sent it may name files of this machine. */
function localPath(
  request: z.output<typeof AddRequest>,
  c: RouteContext,
  { isAuthenticated }: RouteOptions,
): string {
  if (!("path" in request)) {
    const wanted = `Cannot add "${request.model_id}" from a hub`;
    throw new AppError(
      "unsupported_parameter",
      `${wanted}: a path needed, this version adds local models only`,
      {
        hint: 'fetch it to this machine, then send {"path":"/folder/of/the/model"}',
        param: "model_id",
      },
    );
  }
  if (!isAuthenticated && !isLoopback(c.env?.remoteAddress)) {
    const found = `the request came from ${c.env?.remoteAddress ?? "an unknown address"}`;
    throw new AppError(
      "forbidden",
      `Cannot add a path of this machine: ${found}, one of this machine or an API key needed`,
      {
        hint: "ask from this machine, or start the node with: exo serve --api-key KEY",
      },
    );
  }
  if (!request.path.startsWith("/")) {
    const message = `Cannot add "${request.path}": found a relative path, an absolute one needed`;
    const hint = `begin the path with /, or run exo models add ${request.path} in its folder`;
    throw new AppError("invalid_request", message, { param: "path", hint });
  }
  return request.path;
}

function customModel(source: Source, wanted: string): ModelId {
  const { modelId, candidates } = matchModel(wanted, source.state().customModelCards.keys());
  if (modelId) return modelId;
  const hint = candidates.length > 1
    ? `it could be ${candidates.join(", ")}: give more of the name`
    : whyNotCustom(source, wanted);
  throw new AppError("model_not_found", "Custom model card not found", { hint });
}

/** What to do about a card that is on the disk, where only its owner removes it. */
function whyNotCustom(source: Source, wanted: string): string {
  const cards = source.modelCards();
  const { modelId: found } = matchModel(wanted, cards.keys());
  const card = found && cards.get(found);
  if (!card) return "exo models list shows what there is";
  const { modelId, isCustom } = card;
  return isCustom
    ? `delete ${normalizedId(modelId)}.toml in custom_model_cards of the node's data directory`
    : `${modelId} comes with exo, and stays; exo models list shows what can be removed`;
}

/** How far a model is from an answer: clients that take the first one get one that runs. */
function distanceOf({ running, downloaded_on, is_custom }: ModelObject): number {
  return [running, downloaded_on.length > 0, is_custom, true].indexOf(true);
}

function modelDetails(source: Source, card: ModelCard): ModelDetails {
  return { ...modelObject(source, card), model_card: card };
}

/** A card as clients see it. */
export function modelObject(source: Source, card: ModelCard): ModelObject {
  const { modelId, architecture = "", license = "" } = card;
  const state = source.state();
  const isLocal = modelId.startsWith("local/");
  const isBundled = source.bundledModels().has(modelId);
  return {
    id: modelId,
    object: "model",
    created: CREATED_S,
    owned_by: "exo",
    hugging_face_id: isLocal ? "" : modelId,
    name: shortName(modelId),
    description: "",
    context_length: card.contextLength,
    tags: [],
    storage_size_megabytes: Math.round(card.storageSize.inBytes / MIB),
    storage_size_bytes: card.storageSize.inBytes,
    supports_tensor: card.supportsTensor,
    tasks: card.tasks,
    is_custom: card.isCustom,
    family: card.family,
    quantization: card.quantization,
    base_model: card.baseModel,
    capabilities: card.capabilities,
    reasoning_dialect: card.reasoningDialect,
    architecture,
    license,
    is_supported: architecture === "" ? !isImageModel(card) : isKnown(architecture),
    is_bundled: isBundled,
    shadows_bundled: isBundled && card.isCustom,
    running: placedModels(state).has(modelId),
    downloaded_on: holders(state, modelId),
  };
}

function isKnown(architecture: string): boolean {
  return KNOWN_ARCHITECTURES.includes(architecture);
}

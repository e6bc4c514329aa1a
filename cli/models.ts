import { resolve } from "node:path";
import { z } from "zod";
import type { ModelObject } from "../api/models.ts";
import { formatBytes } from "../core/units.ts";
import { defineCommand, defineGroup } from "./command.ts";
import { table } from "./output.ts";
import { suggesting } from "./suggest.ts";

const model = z.string().min(1).describe("Model id, or a prefix that no other model shares");

/** What commands print of a model that they have added or removed. */
const MODEL_ID = z.strictObject({ modelId: z.string().describe("Whole id of the model") });

const ModelView = MODEL_ID.extend({
  storageBytes: z.number().int().describe("Bytes of its weights as stored"),
  quantization: z.string().describe("As its files say, such as `Q4_1`; empty for none"),
  family: z.string().describe("Such as `llama`; empty when unknown"),
  contextLength: z.number().int().describe("Longest prompt plus answer, in tokens; 0 for unknown"),
  tasks: z.array(z.string()).readonly().describe("What it can do, such as `TextGeneration`"),
  isCustom: z.boolean().describe("Whether it was added by hand, and can be removed"),
  isPlaced: z.boolean().describe("Whether it has an instance, ready or not"),
  downloadedOn: z.array(z.string()).readonly().describe("Nodes that have its files"),
});
type ModelView = z.infer<typeof ModelView>;

/** A model as the command line tells of it. */
function viewOf(object: ModelObject): ModelView {
  return {
    modelId: object.id,
    storageBytes: object.storage_size_bytes,
    quantization: object.quantization,
    family: object.family,
    contextLength: object.context_length,
    tasks: object.tasks,
    isCustom: object.is_custom,
    isPlaced: object.running,
    downloadedOn: object.downloaded_on,
  };
}

const list = defineCommand({
  name: "list",
  summary: "List the models that the cluster knows",
  example: ["models list", "models list --json"],
  args: z.object({}),
  json: z.array(ModelView).readonly(),
  async run({ client, out }) {
    const views = (await client.listModels()).map(viewOf);
    const rows = views.map((view) => [
      view.modelId,
      formatBytes(view.storageBytes),
      view.quantization || "none",
      view.contextLength > 0 ? String(view.contextLength) : "unknown",
      view.isPlaced ? "yes" : "no",
    ]);
    const head = ["MODEL", "SIZE", "QUANTIZATION", "CONTEXT", "PLACED"];
    if (rows.length === 0) out.note("No models; exo models add PATH registers one");
    out.result(views, rows.length > 0 ? table(head, rows) : "");
  },
});

const add = defineCommand({
  name: "add",
  summary: "Register a model of this machine, where it lies",
  description: "Takes a GGUF file or a folder in the layout of Hugging Face; copies nothing",
  example: "models add ./SmolLM2-135M-Instruct-Q4_1.gguf",
  positionals: ["path"],
  args: z.object({ path: z.string().min(1).describe("File or folder of the model") }),
  json: MODEL_ID,
  async run({ args, client, out, io }) {
    // The node may run in another directory, so it gets the whole path.
    const added = await client.addModel(resolve(io.cwd, args.path));
    out.result({ modelId: added.id }, `Model ${added.id} is registered`);
  },
});

const show = defineCommand({
  name: "show",
  summary: "Show what the cluster knows of one model",
  example: "models show smollm2",
  positionals: ["model"],
  args: z.object({ model }),
  json: ModelView,
  async run({ args, client, out }) {
    const { model } = args;
    const view = viewOf(await suggesting(client, model, client.showModel(model)));
    const lines = [
      `model         ${view.modelId}`,
      `size          ${formatBytes(view.storageBytes)}`,
      `quantization  ${view.quantization || "none"}`,
      `family        ${view.family || "unknown"}`,
      `context       ${view.contextLength > 0 ? `${view.contextLength} tokens` : "unknown"}`,
      `placed        ${view.isPlaced ? "yes" : "no"}`,
      `files on      ${view.downloadedOn.join(", ") || "no node"}`,
    ];
    out.result(view, lines.join("\n"));
  },
});

const remove = defineCommand({
  name: "remove",
  summary: "Forget a model; its files stay where they are",
  example: "models remove smollm2",
  positionals: ["model"],
  args: z.object({ model }),
  json: MODEL_ID,
  async run({ args, client, out }) {
    const removed = client.removeModel(args.model);
    // Only what was added by hand can be forgotten.
    const { modelId } = await suggesting(client, args.model, removed, (one) => one.is_custom);
    out.result({ modelId }, `Model ${modelId} is forgotten; its files are untouched`);
  },
});

/** `exo models …`. */
export const models = defineGroup({
  name: "models",
  summary: "List, add, show and remove models",
  commands: [list, add, show, remove],
});

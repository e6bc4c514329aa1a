import { resolve } from "node:path";
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { defineCommand, defineGroup } from "./command.ts";
import {
  Details,
  detailsOf,
  HEAD,
  linesOf,
  MODEL_ID,
  ModelView,
  rowOf,
  viewOf,
} from "./model_view.ts";
import { table } from "./output.ts";
import { suggesting } from "./suggest.ts";

const model = z.string().min(1).describe("Model id, or a prefix that no other model shares");

const ListArgs = z.object({
  all: z.boolean().default(false).describe("Also the models that exo only has a card of"),
  family: z.string().min(1).optional()
    .describe("All models of one family, such as qwen").meta({ value: "FAMILY" }),
  downloaded: z.boolean().default(false).describe("Only those whose files a node has"),
});

const list = defineCommand({
  name: "list",
  summary: "List the models that the cluster knows",
  description: "Those that were added, placed or downloaded, unless a flag asks for others",
  example: ["models list", "models list --family qwen", "models list --all --json"],
  args: ListArgs,
  json: z.array(ModelView).readonly(),
  async run({ args, client, out }) {
    const known = (await client.listModels()).map(viewOf);
    const views = known.filter((view) => isWanted(view, args));
    if (views.length === 0) requireFamily(known, args.family);
    if (views.length === 0) out.note("No models here; exo models add PATH registers one");
    out.result(views, views.length > 0 ? table(HEAD, views.map(rowOf)) : "");
    const others = args.downloaded ? [] : known.filter((view) => !views.includes(view));
    if (args.all || args.family !== undefined || others.length === 0) return;
    const lists = `exo models list --all, or --family with one of ${familiesOf(others).join(", ")}`;
    out.note(`exo has cards of ${others.length} more: ${lists}`);
  },
});

function isWanted(view: ModelView, { all, family, downloaded }: z.output<typeof ListArgs>) {
  if (downloaded && view.downloadedOn.length === 0) return false;
  if (family !== undefined) return view.family.toLowerCase() === family.toLowerCase();
  return all || view.isPlaced || view.isCustom || view.downloadedOn.length > 0;
}

function familiesOf(views: readonly ModelView[]): string[] {
  return [...new Set(views.map(({ family }) => family))].filter((family) => family !== "").sort();
}

/** @throws {AppError} `not_found` for a family of no model. */
function requireFamily(known: readonly ModelView[], family: string | undefined): void {
  const families = familiesOf(known);
  if (family === undefined || families.includes(family.toLowerCase())) return;
  throw new AppError(
    "not_found",
    `Cannot list family "${family}": found no model of it, a known family needed`,
    {
      hint: families.length > 0
        ? `name one of ${families.join(", ")}`
        : "exo models add PATH registers a model of this machine",
    },
  );
}

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
  json: Details,
  async run({ args, client, out }) {
    const { model } = args;
    const details = detailsOf(await suggesting(client, model, client.showModel(model)));
    const width = Math.max(...linesOf(details).map(([name]) => name.length));
    const lines = linesOf(details).map(([name, value]) => `${name.padEnd(width)}  ${value}`);
    out.result(details, lines.join("\n"));
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

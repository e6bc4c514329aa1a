import { z } from "zod";
import { defineCommand, defineGroup } from "./command.ts";
import { ConfigJson, configWords, samplingWords } from "./instance_config.ts";
import {
  follow,
  InstanceSummary,
  placeWords,
  rankLines,
  statusWords,
  summaries,
  summarize,
  untagged,
} from "./instance_view.ts";
import { statsLines } from "./instance_stats.ts";
import { namesOf, nodeWords } from "./node_names.ts";
import { table } from "./output.ts";
import { PLACEMENT_FLAGS, placementInput } from "./placement_flags.ts";
import { suggesting } from "./suggest.ts";

/** Longest wait for an instance unless the user says otherwise. */
const WAIT_SECONDS = 300;

const timeout = z.number().min(0).default(WAIT_SECONDS)
  .describe("Longest wait in seconds; 0 waits without end").meta({ value: "SECONDS" });

const id = z.string().min(1).describe("Instance id, as exo instance list shows it");

/** What commands print of an instance that they have made or deleted. */
const INSTANCE_ID = z.string().describe("Id of the instance");

const create = defineCommand({
  name: "create",
  summary: "Place a model on the cluster as an instance",
  description: "Returns once the instance exists; with --wait, once it answers",
  example: [
    "instance create smollm2 --wait",
    "instance create smollm2 --context 4096 --json",
    "instance create smollm2 --temperature 0 --max-concurrent-requests 4",
    "instance create smollm2 --prefer throughput --force",
  ],
  positionals: ["model"],
  args: z.object({
    model: z.string().min(1).describe("Model id, or a prefix that no other model shares"),
    wait: z.boolean().default(false).describe("Wait until the instance is ready"),
    timeout,
    ...PLACEMENT_FLAGS,
  }),
  json: z.strictObject({ instanceId: INSTANCE_ID }),
  async run({ args, client, out }) {
    const placed = client.placeInstance(placementInput(args.model, args));
    const { instanceId, modelId } = await suggesting(client, args.model, placed);
    if (args.wait) {
      const wait = { timeoutSeconds: args.timeout };
      await follow(client.awaitInstance({ instanceId }, wait), out);
    }
    const stands = args.wait ? "is ready" : "is created";
    out.result({ instanceId }, `Instance ${instanceId} of ${modelId} ${stands}`);
  },
});

const list = defineCommand({
  name: "list",
  summary: "List the instances of the cluster",
  example: ["instance list", "instance list --json"],
  args: z.object({}),
  json: z.array(InstanceSummary).readonly(),
  async run({ client, out }) {
    const state = await client.state();
    const instances = summaries(state);
    const rows = instances.map((instance) => [
      instance.instanceId,
      instance.modelId,
      statusWords(instance),
      placeWords(instance, namesOf(state)),
    ]);
    const words = rows.length > 0 ? table(["INSTANCE", "MODEL", "STATUS", "NODES"], rows) : "";
    if (rows.length === 0) out.note("No instances; exo instance create MODEL makes one");
    out.result(instances, words);
  },
});

const show = defineCommand({
  name: "show",
  summary: "Show one instance, its nodes and what it is doing",
  example: "instance show ID",
  positionals: ["id"],
  args: z.object({ id }),
  json: InstanceSummary.extend({
    config: ConfigJson.optional().describe("What it was told when it was created"),
    instance: z.record(z.string(), z.unknown()).readonly()
      .describe("All of it, as `GET /instance/ID` of the API shows it"),
  }),
  async run({ args, client, out }) {
    const tagged = await client.showInstance(args.id);
    const instance = untagged(tagged);
    if (!instance) return 1;
    const state = await client.state();
    const summary = summarize(instance, state);
    const { config = {} } = instance;
    const [told, sampling] = [configWords(config), samplingWords(config)];
    const lines = [
      `instance  ${summary.instanceId}`,
      `model     ${summary.modelId}`,
      `status    ${statusWords(summary)}`,
      `nodes     ${nodeWords(summary.nodeIds, state)}`,
      ...rankLines(summary, namesOf(state)),
      ...(told === "" ? [] : [`config    ${told}`]),
      ...(sampling === "" ? [] : [`sampling  ${sampling}`]),
      ...(summary.lastError === undefined ? [] : [`error     ${summary.lastError}`]),
      ...statsLines(summary.stats),
    ];
    const json = { ...summary, ...(instance.config ? { config } : {}), instance: tagged };
    out.result(json, lines.join("\n"));
    return 0;
  },
});

const awaitReady = defineCommand({
  name: "await",
  summary: "Wait until an instance is ready",
  example: "instance await ID --timeout 60",
  positionals: ["id"],
  args: z.object({ id, timeout }),
  json: z.strictObject({
    instanceId: INSTANCE_ID,
    status: z.literal("ready").describe("Any other end is an error"),
  }),
  async run({ args, client, out }) {
    const wait = { timeoutSeconds: args.timeout };
    const instanceId = await follow(client.awaitInstance({ instanceId: args.id }, wait), out);
    out.result({ instanceId, status: "ready" }, `Instance ${instanceId} is ready`);
  },
});

const remove = defineCommand({
  name: "delete",
  summary: "Delete an instance; answers under way end with an error",
  example: "instance delete ID",
  positionals: ["id"],
  args: z.object({ id }),
  json: z.strictObject({ instanceId: INSTANCE_ID }),
  async run({ args, client, out }) {
    await client.deleteInstance(args.id);
    out.result({ instanceId: args.id }, `Instance ${args.id} is deleted`);
  },
});

/** `exo instance …`. */
export const instance = defineGroup({
  name: "instance",
  summary: "Create, follow and delete instances of models",
  commands: [create, list, show, awaitReady, remove],
});

import { z } from "zod";
import type { MetaInstanceView } from "../api/client_placement.ts";
import { AppError } from "../core/errors.ts";
import { MetaInstanceSpec } from "../core/meta_instance.ts";
import { defineCommand, defineGroup } from "./command.ts";
import {
  MetaInstanceSummary,
  metaTable,
  phaseWords,
  reasonWords,
  retriesWords,
  stageWords,
  summarizeMeta,
} from "./meta_instance_view.ts";
import type { Output } from "./output.ts";
import { PLACEMENT_FLAGS, placementInput } from "./placement_flags.ts";
import { suggesting } from "./suggest.ts";

/** Longest wait for a meta-instance unless the user says otherwise. */
const WAIT_SECONDS = 300;

/** Longest wait that a timer can hold, in seconds. */
const WAIT_SECONDS_MAX = 2_000_000;

const id = z.string().min(1).describe("Id, as exo meta-instance list shows it");

const ID_JSON = z.strictObject({
  metaInstanceId: z.string().describe("Id of the meta-instance"),
});

const create = defineCommand({
  name: "create",
  summary: "Declare that an instance of a model always exists",
  description: "The cluster places it, restarts it and places it anew until it is deleted. " +
    "Returns once that is stored; with --wait, once it answers",
  example: [
    "meta-instance create smollm2 --wait",
    "meta-instance create smollm2 --max-retries 5 --context 4096 --json",
  ],
  positionals: ["model"],
  args: z.object({
    model: z.string().min(1).describe("Model id, or a prefix that no other model shares"),
    wait: z.boolean().default(false).describe("Wait until its instance is ready"),
    timeout: z.number().min(0).max(WAIT_SECONDS_MAX).default(WAIT_SECONDS)
      .describe("Longest wait in seconds; 0 waits without end").meta({ value: "SECONDS" }),
    maxRetries: MetaInstanceSpec.shape.maxRetries
      .describe("Retries in a row; one more failure parks it"),
    pin: MetaInstanceSpec.shape.pin
      .describe("prefer: nodes of --node that are away are left out; strict: waited for"),
    ...PLACEMENT_FLAGS,
  }),
  json: ID_JSON,
  async run({ args, client, connect, out, signal }) {
    const input = placementInput(args.model, args);
    const { pin, maxRetries } = args;
    const created = client.createMetaInstance({ ...input, pin, maxRetries });
    const { metaInstanceId, modelId } = await suggesting(client, args.model, created);
    if (args.wait) {
      const timeout = args.timeout > 0 ? [AbortSignal.timeout(args.timeout * 1000)] : [];
      const watching = connect(AbortSignal.any([signal, ...timeout]));
      const isLate = () => timeout.some(({ aborted }) => aborted) && !signal.aborted;
      await untilReady(watching.watchMetaInstance(metaInstanceId), {
        metaInstanceId,
        out,
        isLate,
        seconds: args.timeout,
      });
    }
    const stands = args.wait ? "is ready" : "is created";
    out.result({ metaInstanceId }, `Meta-instance ${metaInstanceId} of ${modelId} ${stands}`);
  },
});

/** How a wait is told of, and when it is over. */
interface Waiting {
  readonly metaInstanceId: string;
  readonly out: Output;
  readonly isLate: () => boolean;
  readonly seconds: number;
}

/**
 * Shows how a meta-instance fares until it is ready.
 * @throws {AppError} `runner_failed` once it is parked, `not_found` once it is deleted, `timed_out`.
 */
async function untilReady(
  views: AsyncIterable<MetaInstanceView>,
  { metaInstanceId, out, isLate, seconds }: Waiting,
): Promise<void> {
  const hint = `exo meta-instance show ${metaInstanceId}`;
  const wanted = `Meta-instance ${metaInstanceId}`;
  let last = "";
  try {
    for await (const view of views) {
      const meta = summarizeMeta(view);
      const reason = reasonWords(meta);
      const why = reason === "" ? "" : `: ${reason}`;
      last = `${phaseWords(meta)}${why}`;
      if (meta.phase === "ready") return;
      if (meta.phase === "parked") {
        throw new AppError("runner_failed", `${wanted} is parked: ${reason}`, {
          hint: `mend that, then: exo meta-instance retry ${metaInstanceId}`,
        });
      }
      const { layersLoaded: done, totalLayers: total } = meta;
      out.progress({ label: `${stageWords(meta)}${why}`, done, total });
    }
  } catch (cause) {
    if (!isLate()) throw cause;
    const message = `${wanted} is not ready after ${seconds} s: ${
      last || "nothing was heard of it"
    }`;
    throw new AppError("timed_out", message, { hint, cause });
  } finally {
    out.endProgress();
  }
  throw new AppError("not_found", `${wanted} was deleted before it was ready`, {
    hint: "exo meta-instance create makes another",
  });
}

const list = defineCommand({
  name: "list",
  summary: "List what the cluster keeps running",
  example: ["meta-instance list", "meta-instance list --json"],
  args: z.object({}),
  json: z.array(MetaInstanceSummary).readonly(),
  async run({ client, out }) {
    const metas = Object.values(await client.listMetaInstances()).map(summarizeMeta);
    if (metas.length === 0) out.note("No meta-instances; exo meta-instance create MODEL makes one");
    out.result(metas, metas.length === 0 ? "" : metaTable(metas));
  },
});

const show = defineCommand({
  name: "show",
  summary: "Show one meta-instance, what was asked for and how it fares",
  example: "meta-instance show ID",
  positionals: ["id"],
  args: z.object({ id }),
  json: MetaInstanceSummary.extend({
    metaInstance: z.record(z.string(), z.unknown()).readonly()
      .describe("All of it, as `GET /meta_instances/ID` of the API shows it"),
  }),
  async run({ args, client, out }) {
    const view = await client.showMetaInstance(args.id);
    const meta = summarizeMeta(view);
    const lines = [
      ["meta-instance", meta.metaInstanceId],
      ["model", meta.modelId],
      ["phase", phaseWords(meta)],
      ["instance", meta.instanceId],
      ["retries", `${retriesWords(meta)} in a row`],
      ["no place", meta.placementError],
      ["last failure", meta.lastFailureError],
    ].flatMap(([name = "", value]) => value === undefined ? [] : `${name.padEnd(15)}${value}`);
    out.result({ ...meta, metaInstance: { ...view } }, lines.join("\n"));
  },
});

const retry = defineCommand({
  name: "retry",
  summary: "Try a parked meta-instance again, or one that waits, at once",
  example: "meta-instance retry ID",
  positionals: ["id"],
  args: z.object({ id }),
  json: ID_JSON,
  async run({ args, client, out }) {
    await client.retryMetaInstance(args.id);
    out.result({ metaInstanceId: args.id }, `Meta-instance ${args.id} is tried again`);
  },
});

const remove = defineCommand({
  name: "delete",
  summary: "Delete a meta-instance and its instance; answers under way end with an error",
  example: "meta-instance delete ID",
  positionals: ["id"],
  args: z.object({ id }),
  json: ID_JSON,
  async run({ args, client, out }) {
    await client.deleteMetaInstance(args.id);
    out.result({ metaInstanceId: args.id }, `Meta-instance ${args.id} is deleted`);
  },
});

/** `exo meta-instance …`. */
export const metaInstance = defineGroup({
  name: "meta-instance",
  summary: "Keep instances of models running, whatever fails",
  commands: [create, list, show, retry, remove],
});

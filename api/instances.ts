import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { CommandId, InstanceId } from "../core/ids.ts";
import { Instance } from "../core/instance.ts";
import type { ModelCard } from "../core/model_card.ts";
import { readJson } from "./body.ts";
import { encodeInstance, internalTags } from "./encode_state.ts";
import { parse } from "./errors.ts";
import type { Gateway } from "./gateway.ts";
import { waitForInstance, type Wanted } from "./instance_wait.ts";
import { normalBody, PLACEMENT_EXAMPLES, PLACEMENT_FIELDS, requestOf } from "./placement_body.ts";
import { findModel } from "./resolve.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";
import { sseResponse } from "./sse.ts";

/** Longest wait that a client may ask for. */
const WAIT_SECONDS_MAX = 300;

const PlaceRequest = z.strictObject(PLACEMENT_FIELDS);

/** The kinds of instances, as a tag around one or as its type. */
const KINDS = ["MlxRingInstance", "MlxJacclInstance"];

const Tagged = z.looseObject({}).refine(
  (json) => KINDS.some((kind) => kind in json || json["type"] === kind),
  `an object of the kind ${KINDS.join(" or ")}`,
);

const CreateRequest = z.strictObject({
  instance: Tagged.transform((json) => internalTags(json) as z.input<typeof Instance>)
    .pipe(Instance),
});

/** A whole instance is too much for an example, and a part of one would be refused again. */
const CREATE_INSTEAD = 'send POST /place_instance {"model_id":"MODEL"} instead';

const seconds = z.coerce.number().min(0).max(WAIT_SECONDS_MAX);

const PlaceQuery = z.object({
  wait: z.enum(["ready"]).optional(),
  timeout_seconds: seconds.default(WAIT_SECONDS_MAX),
});

const AwaitQuery = z.object({
  instance_id: InstanceId.optional(),
  model_id: z.string().min(1).optional(),
  until: z.enum(["exists", "ready"]).default("ready"),
  timeout_seconds: seconds.default(0),
});

/** Places, lists, follows and deletes instances (spec §4). */
export function instanceRoutes(router: Router, options: RouteOptions): void {
  const { gateway, limits, streams } = options;
  router.post("/place_instance", async (c) => {
    const query = parse(PlaceQuery, c.req.query());
    const json = await readJson(c.req.raw, limits);
    const body = parse(PlaceRequest, normalBody(json), PLACEMENT_EXAMPLES);
    return await place(c, gateway, body, query);
  });
  router.post("/instance", async (c) => {
    const json = await readJson(c.req.raw, limits);
    const { instance } = parse(CreateRequest, json, CREATE_INSTEAD);
    const commandId = CommandId.parse(gateway.newId());
    await gateway.submit({ type: "CreateInstance", commandId, instance });
    const [shard] = Object.values(instance.shardAssignments.runnerToShard);
    return c.json(accepted(commandId, instance.instanceId, shard?.modelCard));
  });
  const list = (c: RouteContext) =>
    c.json([...gateway.state().instances.values()].map(encodeInstance));
  router.get("/instance", list);
  router.get("/instances", list);
  router.get("/instance/await", (c) => {
    const wanted = wantedBy(gateway, parse(AwaitQuery, c.req.query()));
    const gone = new AbortController();
    const messages = waitForInstance(gateway, wanted, gone.signal);
    const leave = () => gone.abort();
    return sseResponse(asData(messages), { ...streams, onDisconnect: leave, onStall: leave });
  });
  router.get("/instance/:id", (c) => c.json(encodeInstance(existing(gateway, c.req.param("id")))));
  router.delete("/instance/:id", async (c) => {
    const { instanceId } = existing(gateway, c.req.param("id"));
    const commandId = CommandId.parse(gateway.newId());
    await gateway.submit({ type: "DeleteInstance", commandId, instanceId });
    return c.json(accepted(commandId, instanceId));
  });
}

async function place(
  c: RouteContext,
  gateway: Gateway,
  body: z.output<typeof PlaceRequest>,
  { wait, timeout_seconds }: z.output<typeof PlaceQuery>,
): Promise<Response> {
  const card = findModel(gateway, body.model_id);
  const commandId = CommandId.parse(gateway.newId());
  const request = requestOf(gateway, body, card.modelId);
  const asked = InstanceId.parse(gateway.newId());
  const reply = await gateway.submit({
    type: "PlaceInstance",
    commandId,
    instanceId: asked,
    request,
    modelCard: card,
  });
  const instanceId = reply.instanceId ?? asked;
  if (wait) {
    const timeoutMs = timeout_seconds * 1000;
    const wanted = { instanceId, until: wait, timeoutMs, isNew: true };
    await untilReady(gateway, wanted, c.req.raw.signal);
  }
  return c.json(accepted(commandId, instanceId, card));
}

/** @throws {AppError} `runner_failed`, `timed_out`, or `cancelled` when the client is gone. */
async function untilReady(gateway: Gateway, wanted: Wanted, signal: AbortSignal): Promise<void> {
  for await (const message of waitForInstance(gateway, wanted, signal)) {
    const hint = `exo instance show ${wanted.instanceId}`;
    if (message.type === "ready") return;
    if (message.type === "failed") throw new AppError("runner_failed", message.message, { hint });
    if (message.type === "timeout") throw new AppError("timed_out", message.message, { hint });
  }
  throw new AppError("cancelled", "Cannot answer: the client is gone");
}

function wantedBy(
  gateway: Gateway,
  { instance_id, model_id, until, timeout_seconds }: z.output<typeof AwaitQuery>,
): Wanted {
  const timeoutMs = timeout_seconds * 1000;
  if (instance_id !== undefined) {
    // What exists is known here; only who waits for it to exist may name what does not.
    if (until === "ready") existing(gateway, instance_id);
    return { instanceId: instance_id, until, timeoutMs };
  }
  if (model_id === undefined) {
    const message =
      `Cannot wait for an instance: found neither "instance_id" nor "model_id", one needed`;
    const hint = "add one to the query: /instance/await?model_id=MODEL";
    throw new AppError("invalid_request", message, { param: "instance_id", hint });
  }
  const { modelId } = findModel(gateway, model_id);
  return { modelId, until, timeoutMs };
}

function existing(gateway: Gateway, id: string): Instance {
  const instance = gateway.state().instances.get(id as InstanceId);
  if (instance) return instance;
  throw new AppError("instance_not_found", "Instance not found", {
    hint: "exo instance list shows what there is",
  });
}

function accepted(commandId: CommandId, instanceId: InstanceId, card?: ModelCard): object {
  return {
    message: "Command received.",
    command_id: commandId,
    instance_id: instanceId,
    ...(card ? { model_card: card } : {}),
  };
}

async function* asData(messages: AsyncIterable<object>) {
  for await (const message of messages) yield { data: JSON.stringify(message) };
}

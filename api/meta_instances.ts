import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { CommandId, InstanceId, MetaInstanceId } from "../core/ids.ts";
import { type MetaInstance, MetaInstanceSpec } from "../core/meta_instance.ts";
import type { ModelCard } from "../core/model_card.ts";
import { place } from "../core/placement.ts";
import { readJson } from "./body.ts";
import { encodeMetaInstance } from "./meta_instance_view.ts";
import { parse } from "./errors.ts";
import type { Gateway } from "./gateway.ts";
import { watchMetaInstance } from "./meta_instance_watch.ts";
import { normalBody, PLACEMENT_EXAMPLES, PLACEMENT_FIELDS, requestOf } from "./placement_body.ts";
import { findModel } from "./resolve.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";
import { sseResponse } from "./sse.ts";

/** Longest key by which a client makes its request repeatable. */
const IDEMPOTENCY_KEY_CHARS_MAX = 256;

const IDEMPOTENCY_KEY = "idempotency-key";

const CreateRequest = z.strictObject({
  ...PLACEMENT_FIELDS,
  pin: MetaInstanceSpec.shape.pin,
  max_retries: MetaInstanceSpec.shape.maxRetries,
});

const ShowQuery = z.object({ watch: z.enum(["1", "true"]).optional() });

/** Declares, lists, follows, re-arms and deletes meta-instances (spec §5). */
export function metaInstanceRoutes(router: Router, options: RouteOptions): void {
  const { gateway, limits, streams } = options;
  router.get("/meta_instances", (c) => {
    const state = gateway.state();
    return c.json(Object.fromEntries(
      [...state.metaInstances].map(([id, one]) => [id, encodeMetaInstance(state, one)]),
    ));
  });
  router.post("/meta_instance", async (c) => {
    const json = await readJson(c.req.raw, limits);
    const body = parse(CreateRequest, normalBody(json), PLACEMENT_EXAMPLES);
    return await create(c, gateway, body);
  });
  router.get("/meta_instances/:id", (c) => {
    const { watch } = parse(ShowQuery, c.req.query());
    const metaInstance = existing(gateway, c.req.param("id"));
    if (!watch) return c.json(encodeMetaInstance(gateway.state(), metaInstance));
    const gone = new AbortController();
    const views = watchMetaInstance(gateway, metaInstance.metaInstanceId, gone.signal);
    const leave = () => gone.abort();
    return sseResponse(asData(views), { ...streams, onDisconnect: leave, onStall: leave });
  });
  const submit = async (c: RouteContext, type: "DeleteMetaInstance" | "RetryMetaInstance") => {
    const { metaInstanceId } = existing(gateway, c.req.param("id") ?? "");
    const commandId = CommandId.parse(gateway.newId());
    await gateway.submit({ type, commandId, metaInstanceId });
    return c.json(accepted(commandId, metaInstanceId));
  };
  router.delete("/meta_instance/:id", (c) => submit(c, "DeleteMetaInstance"));
  router.post("/meta_instance/:id/retry", (c) => submit(c, "RetryMetaInstance"));
}

async function create(
  c: RouteContext,
  gateway: Gateway,
  body: z.output<typeof CreateRequest>,
): Promise<Response> {
  const card = findModel(gateway, body.model_id);
  const commandId = CommandId.parse(gateway.newId());
  const metaInstanceId = await idFor(c, gateway);
  const metaInstance = MetaInstanceSpec.parse({
    ...requestOf(gateway, body, card.modelId),
    metaInstanceId,
    pin: body.pin,
    maxRetries: body.max_retries,
  });
  const instanceId = InstanceId.parse(gateway.newId());
  refuseHopeless(gateway, metaInstance, { card, instanceId });
  const command = { type: "CreateMetaInstance", commandId, metaInstance, instanceId } as const;
  await gateway.submit({ ...command, modelCard: card }).catch((cause) => {
    throw isRepeatable(c) ? usedOtherwise(cause, metaInstanceId) : cause;
  });
  return c.json({ ...accepted(commandId, metaInstanceId), model_card: card });
}

/**
 * A wish that no cluster could ever fulfil is not kept.
 * @throws {AppError} `unsupported_parameter` with what cannot be.
 */
function refuseHopeless(
  gateway: Gateway,
  request: MetaInstanceSpec,
  { card, instanceId }: { card: ModelCard; instanceId: InstanceId },
): void {
  const tried = place(gateway.state(), gateway.telemetry(), { instanceId, card, request });
  if (tried.ok || tried.code !== "unsupported_parameter") return;
  throw new AppError(tried.code, tried.reason, { hint: tried.hint });
}

/** A fresh id, or the one that belongs to the key of a request that may be repeated. */
async function idFor(c: RouteContext, gateway: Gateway): Promise<MetaInstanceId> {
  const key = c.req.header(IDEMPOTENCY_KEY);
  if (key === undefined) return MetaInstanceId.parse(gateway.newId());
  if (key === "" || key.length > IDEMPOTENCY_KEY_CHARS_MAX) {
    const found = `found ${key.length} characters`;
    const message = `Cannot read the header Idempotency-Key: ${found}, ` +
      `1 to ${IDEMPOTENCY_KEY_CHARS_MAX} needed`;
    const hint = "send a UUID, the same one whenever the request is repeated";
    throw new AppError("invalid_request", message, { hint });
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  return MetaInstanceId.parse(`key-${new Uint8Array(hash).toHex().slice(0, 32)}`);
}

function isRepeatable(c: RouteContext): boolean {
  return c.req.header(IDEMPOTENCY_KEY) !== undefined;
}

/** A conflict in the words of whoever sent a key and knows nothing of the id that is made of it. */
function usedOtherwise(cause: unknown, metaInstanceId: MetaInstanceId): unknown {
  if (!(cause instanceof AppError) || cause.code !== "conflict") return cause;
  const message = "Cannot create a meta-instance: found its Idempotency-Key used for another, " +
    "a new key needed";
  const hint = `send a new key, or delete the other: exo meta-instance delete ${metaInstanceId}`;
  return new AppError("conflict", message, { hint, cause });
}

function existing(gateway: Gateway, id: string): MetaInstance {
  const metaInstance = gateway.state().metaInstances.get(id as MetaInstanceId);
  if (metaInstance) return metaInstance;
  throw new AppError("not_found", "MetaInstance not found", {
    hint: "exo meta-instance list shows what there is",
  });
}

function accepted(commandId: CommandId, metaInstanceId: MetaInstanceId): object {
  return {
    message: "Command received.",
    command_id: commandId,
    meta_instance_id: metaInstanceId,
  };
}

async function* asData(views: AsyncIterable<object>) {
  for await (const view of views) yield { data: JSON.stringify(view) };
}

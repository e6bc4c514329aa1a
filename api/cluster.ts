import { AppError } from "../core/errors.ts";
import type { Json } from "./encode_state.ts";
import type { RouteOptions, Router } from "./routes.ts";
import { stateTables } from "./state_tables.ts";

const STATE_PREFIX = "/state/";

/** `/node_id`, `/state`, `/onboarding`, `/metrics` and the two probes. */
export function clusterRoutes(router: Router, { gateway, metrics }: RouteOptions): void {
  router.get("/node_id", (c) => c.json(gateway.nodeId));
  router.get("/state", (c) => {
    const tables = Object.entries(stateTables(gateway));
    return c.json(Object.fromEntries(tables.map(([key, make]) => [key, make()])));
  });
  router.get(`${STATE_PREFIX}*`, (c) => {
    const { pathname } = new URL(c.req.raw.url);
    const keys = pathname.slice(STATE_PREFIX.length).split("/").filter((key) => key !== "");
    // Split before decoding: an encoded slash belongs to a key, such as a model id.
    return c.json(walk(stateTables(gateway), keys.map(decoded)));
  });
  router.get(
    "/onboarding",
    async (c) => c.json({ completed: await gateway.onboarding.isCompleted() }),
  );
  router.post("/onboarding", async (c) => {
    await gateway.onboarding.complete();
    return c.json({ completed: true });
  });
  router.get("/metrics", async (c) => {
    const { text, contentType } = await metrics.render();
    return c.body(text, 200, { "content-type": contentType });
  });
  router.get("/healthz", (c) => c.json({ status: "ok", version: gateway.version }));
  router.get("/readyz", (c) => {
    const readiness = gateway.readiness();
    if (!readiness.ready) {
      throw new AppError("not_ready", `Node is not ready: ${readiness.reason}`, {
        hint: readiness.hint,
      });
    }
    return c.json({ status: "ready", nodeId: gateway.nodeId });
  });
}

function walk(tables: Readonly<Record<string, () => Json>>, keys: readonly string[]): Json {
  const [first, ...rest] = keys;
  let value: Json | undefined = first === undefined
    ? Object.fromEntries(Object.entries(tables).map(([key, make]) => [key, make()]))
    : own(tables, first)?.();
  for (const key of rest) value = step(value, key);
  if (value === undefined) {
    const path = keys.join(".");
    throw new AppError("not_found", `unable to find path '${path}' in state json`, {
      hint: "GET /state shows all keys",
    });
  }
  return value;
}

function step(value: Json | undefined, key: string): Json | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) return /^\d+$/.test(key) ? value[Number(key)] : undefined;
  return own(value as Readonly<Record<string, Json>>, key);
}

/** Own keys only: `constructor` is no part of the state. */
function own<T>(object: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

function decoded(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

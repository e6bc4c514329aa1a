import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { TaskId } from "../core/ids.ts";
import { isTraceId, type Span, toChromeTrace, traceStats } from "../core/trace.ts";
import { readJson } from "./body.ts";
import { parse } from "./errors.ts";
import type { RouteOptions, Router } from "./routes.ts";

/** Most traces that one request deletes. */
const DELETE_MAX = 1_000;

const DeleteRequest = z.strictObject({ taskIds: z.array(z.string()).max(DELETE_MAX) });

const DELETE_EXAMPLES = { taskIds: ["TASK_ID"] };

/** Lists, shows and deletes the traces of tasks (spec §16); new ones come if tracing is on. */
export function traceRoutes(router: Router, { gateway: { traces }, limits }: RouteOptions): void {
  const find = async (id: string): Promise<{ taskId: TaskId; spans: readonly Span[] }> => {
    const taskId = requireTraceId(id);
    const spans = await traces.read(taskId);
    if (spans) return { taskId, spans };
    throw new AppError("not_found", `Cannot show a trace: found none of task ${id}, one needed`, {
      hint: "GET /v1/traces lists them; a node that has EXO_TRACING_ENABLED=true makes them",
    });
  };
  router.get("/v1/traces", async (c) => {
    const entries = await traces.list();
    const shown = entries.map(({ taskId, createdAt, bytes }) => {
      return { taskId, createdAt: new Date(createdAt).toISOString(), fileSize: bytes };
    });
    return c.json({ traces: shown });
  });
  router.post("/v1/traces/delete", async (c) => {
    const { taskIds } = parse(DeleteRequest, await readJson(c.req.raw, limits), DELETE_EXAMPLES);
    const [deleted, notFound]: [string[], string[]] = [[], []];
    // All of them are looked at before the first is deleted.
    for (const taskId of [...new Set(taskIds)].map(requireTraceId)) {
      (await traces.remove(taskId) ? deleted : notFound).push(taskId);
    }
    return c.json({ deleted, notFound });
  });
  router.get("/v1/traces/:id", async (c) => {
    const { taskId, spans } = await find(c.req.param("id"));
    return c.json({ taskId, traces: spans });
  });
  router.get("/v1/traces/:id/stats", async (c) => {
    const { taskId, spans } = await find(c.req.param("id"));
    return c.json({ taskId, ...traceStats(spans) });
  });
  router.get("/v1/traces/:id/raw", async (c) => {
    const { taskId, spans } = await find(c.req.param("id"));
    const disposition = `attachment; filename="trace_${taskId}.json"`;
    return c.json(toChromeTrace(spans), 200, { "content-disposition": disposition });
  });
}

function requireTraceId(id: string): TaskId {
  if (isTraceId(id)) return TaskId.parse(id);
  const found = JSON.stringify(id.length > 100 ? `${id.slice(0, 100)}…` : id);
  throw new AppError(
    "invalid_request",
    `Cannot look for a trace: found the id ${found}, one of letters, digits, "-", "_" and "." needed`,
    { hint: "take an id that GET /v1/traces lists" },
  );
}

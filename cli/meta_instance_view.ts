import { z } from "zod";
import type { MetaInstanceView } from "../api/client_placement.ts";
import { MetaInstancePhase } from "../core/meta_instance.ts";
import { table } from "./output.ts";

/** A meta-instance as the command line tells of it. */
export const MetaInstanceSummary = z.strictObject({
  metaInstanceId: z.string().describe("Id of the meta-instance"),
  modelId: z.string().describe("Whole id of its model"),
  phase: MetaInstancePhase.describe("Where it stands"),
  detail: z.string().optional()
    .describe("How far its instance is, until it is ready, such as `downloading` or `loading`"),
  layersLoaded: z.number().int().optional().describe("Layers in memory, while it loads"),
  totalLayers: z.number().int().optional().describe("Layers in all, while it loads"),
  instanceId: z.string().optional().describe("Its instance, while there is one"),
  placementError: z.string().optional().describe("Why there is no place for it now"),
  consecutiveFailures: z.number().int().describe("Failures in a row"),
  maxRetries: z.number().int().describe("Retries in a row; one more failure parks it"),
  lastFailureError: z.string().optional().describe("Why it failed last"),
  nextAttemptAt: z.number().int().optional()
    .describe("When it is tried again, in milliseconds since 1970"),
});
export type MetaInstanceSummary = z.infer<typeof MetaInstanceSummary>;

/** A meta-instance with how far its instance is. */
export function summarizeMeta(view: MetaInstanceView): MetaInstanceSummary {
  const counted = Object.values(view.runners ?? {})
    .filter(({ totalLayers }) => totalLayers !== undefined);
  const sum = (key: "layersLoaded" | "totalLayers") =>
    counted.reduce((total, runner) => total + (runner[key] ?? 0), 0);
  const layers = counted.length === 0
    ? {}
    : { layersLoaded: sum("layersLoaded"), totalLayers: sum("totalLayers") };
  const all: Readonly<Record<string, unknown>> = { ...view, ...layers };
  // Its other keys are what was asked for.
  const told = Object.keys(MetaInstanceSummary.shape)
    .flatMap((key) => all[key] === undefined ? [] : [[key, all[key]] as const]);
  return Object.fromEntries(told) as MetaInstanceSummary;
}

/** `starting: loading 3/30`, `retrying at 12:03:04`, or the phase alone. */
export function phaseWords(meta: MetaInstanceSummary): string {
  const { layersLoaded = 0, totalLayers } = meta;
  return totalLayers === undefined
    ? stageWords(meta)
    : `${stageWords(meta)} ${layersLoaded}/${totalLayers}`;
}

/** The same without layers. */
export function stageWords({ phase, detail, nextAttemptAt }: MetaInstanceSummary): string {
  const isWaiting = detail === undefined || detail === phase;
  if (phase === "retrying" && isWaiting && nextAttemptAt !== undefined) {
    return `retrying at ${new Date(nextAttemptAt).toTimeString().slice(0, 8)}`;
  }
  return isWaiting ? phase : `${phase}: ${detail}`;
}

/** Why it is not ready; empty when there is nothing to say. */
export function reasonWords(
  { phase, placementError, lastFailureError }: MetaInstanceSummary,
): string {
  if (phase === "ready") return "";
  const isPlacing = phase === "placing";
  return (isPlacing ? placementError : lastFailureError) ?? lastFailureError ?? "";
}

/** `1 of 3`: the failure beyond the last retry has none. */
export function retriesWords({ consecutiveFailures, maxRetries }: MetaInstanceSummary): string {
  return `${Math.min(consecutiveFailures, maxRetries)} of ${maxRetries}`;
}

/** Meta-instances as a table; a reason only where there is one. */
export function metaTable(metas: readonly MetaInstanceSummary[]): string {
  const hasReason = metas.some((meta) => reasonWords(meta) !== "");
  const head = ["META-INSTANCE", "MODEL", "PHASE", "RETRIES", "INSTANCE"];
  const rows = metas.map((meta) => [
    meta.metaInstanceId,
    meta.modelId,
    phaseWords(meta),
    retriesWords(meta),
    meta.instanceId ?? "-",
    ...(hasReason ? [reasonWords(meta)] : []),
  ]);
  return table(hasReason ? [...head, "REASON"] : head, rows);
}

import { z } from "zod";
import type { NodeSystem } from "../../core/telemetry.ts";

/** Frequency in MHz and busy share: how macmon told usages before version 0.8. */
const Usage = z.tuple([z.number(), z.number()]).optional();
const Share = z.number().optional();

const Sample = z.object({
  temp: z.object({ cpu_temp_avg: z.number(), gpu_temp_avg: z.number() }).partial().optional(),
  cpu_usage_pct: Share,
  pcpu_usage: Usage,
  ecpu_usage: Usage,
  gpu_usage: Usage,
  cpu_active_ratio: Share,
  pcpu_active_ratio: Share,
  ecpu_active_ratio: Share,
  gpu_active_ratio: Share,
  sys_power: z.number().optional(),
});

/**
 * One line of `macmon pipe`, in the shape before 0.8 or since; undefined when it is none.
 * Source: readme.md of vladkens/macmon, 2026.
 */
export function parseMacmon(line: string): NodeSystem | undefined {
  const parsed = Sample.safeParse(jsonOf(line));
  if (!parsed.success) return undefined;
  const { temp, sys_power, ...said } = parsed.data;
  const performance = said.pcpu_active_ratio ?? said.pcpu_usage?.[1];
  const efficiency = said.ecpu_active_ratio ?? said.ecpu_usage?.[1];
  if (performance === undefined && efficiency === undefined) return undefined;
  return {
    cpuUsage: share(said.cpu_active_ratio ?? said.cpu_usage_pct),
    performanceCoreUsage: share(performance),
    efficiencyCoreUsage: share(efficiency),
    gpuUsage: share(said.gpu_active_ratio ?? said.gpu_usage?.[1]),
    cpuTemperatureCelsius: rounded(temp?.cpu_temp_avg, 1),
    gpuTemperatureCelsius: rounded(temp?.gpu_temp_avg, 1),
    // A Mac without a sensor for it says 0.
    powerWatts: sys_power === undefined || sys_power <= 0 ? undefined : rounded(sys_power, 1),
  };
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function share(value: number | undefined): number | undefined {
  return value === undefined ? undefined : rounded(Math.min(1, Math.max(0, value)), 3);
}

function rounded(value: number | undefined, digits: number): number | undefined {
  return value === undefined ? undefined : Number(value.toFixed(digits));
}

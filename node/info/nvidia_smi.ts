import type { GpuMemory } from "../../core/telemetry.ts";
import { MIB } from "../../core/units.ts";

/** What a GPU says of itself; what it does not know is absent. */
export interface GpuSample {
  /** Absent where the GPU shares the machine's memory. */
  readonly memory?: GpuMemory | undefined;
  readonly usage?: number | undefined;
  readonly temperatureCelsius?: number | undefined;
  readonly powerWatts?: number | undefined;
}

/** The fields of a line, in this order: MiB, MiB, percent, °C, W. */
export const NVIDIA_FIELDS = "memory.total,memory.free,utilization.gpu,temperature.gpu,power.draw";

/**
 * One line of `nvidia-smi --query-gpu … --format=csv,noheader,nounits`; undefined when it is none.
 * What a GPU does not know it writes in brackets: `[N/A]`, `[Not Supported]`.
 */
export function parseNvidiaSmi(line: string): GpuSample | undefined {
  const fields = line.split(",").map((field) => field.trim());
  if (fields.length !== NVIDIA_FIELDS.split(",").length) return undefined;
  if (!fields.every((field) => /^(\d+(\.\d+)?|\[.*\])$/.test(field))) return undefined;
  const [total, free, percent, temperatureCelsius, powerWatts] = fields.map((field) =>
    field.startsWith("[") ? undefined : Number(field)
  );
  const memory = total === undefined || free === undefined
    ? undefined
    : { totalBytes: total * MIB, availableBytes: free * MIB };
  const usage = percent === undefined ? undefined : Math.min(1, percent / 100);
  return { memory, usage, temperatureCelsius, powerWatts };
}

/**
 * The GPU that runners compute on: the first of those that `CUDA_VISIBLE_DEVICES` leaves them, by
 * its number or UUID.
 */
export function firstGpu(visibleDevices: string | undefined): string {
  const first = visibleDevices?.split(",")[0]?.trim() ?? "";
  return /^(\d+|(GPU|MIG)-[\w-]+)$/.test(first) ? first : "0";
}

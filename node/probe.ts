import { join } from "node:path";
import { z } from "zod";
import { cgroupMemory } from "../core/cgroup_memory.ts";
import { Backend } from "../core/model_card.ts";
import type { NodeInfo } from "../core/node_info.ts";
import type { NodeMemory } from "../core/telemetry.ts";

/** What `setup` found out about this machine's devices and wrote beside the library. */
const DeviceFile = z.object({
  backends: z.array(Backend),
  memoryBandwidthBytesPerSecond: z.number().min(0).optional(),
});

/**
 * Memory right now, within the limits of this process's control groups; cheap enough to be asked
 * for at every placement. `memoryBytes`: as much as this machine is said to have.
 */
export function probeMemory(memoryBytes?: number, readFile = readText): NodeMemory {
  const system = Deno.systemMemoryInfo();
  const group = cgroupMemory(readFile);
  const total = Math.min(system.total, group?.limitBytes ?? Infinity);
  const available = Math.min(system.available, group?.availableBytes ?? Infinity);
  if (memoryBytes === undefined) return { ramTotalBytes: total, ramAvailableBytes: available };
  return { ramTotalBytes: memoryBytes, ramAvailableBytes: Math.min(memoryBytes, available) };
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined; // Another system, or another version of control groups.
  }
}

/** What this machine is, for the cluster to know. `deviceFile` absent: no library, no backends. */
export async function probeNode(
  options: { name?: string | undefined; version: string; deviceFile?: string | undefined },
): Promise<NodeInfo> {
  const { backends, memoryBandwidthBytesPerSecond } = await readDevice(options.deviceFile);
  return {
    friendlyName: options.name ?? Deno.hostname(),
    osVersion: `${Deno.build.os} ${Deno.osRelease()}`,
    chipId: Deno.build.arch,
    machineModel: "Unknown",
    osBuildVersion: "Unknown",
    exoVersion: options.version,
    backends,
    // There is no client of a hub yet: a node runs what it has.
    fetchesModels: false,
    ...(memoryBandwidthBytesPerSecond === undefined ? {} : { memoryBandwidthBytesPerSecond }),
  };
}

async function readDevice(file: string | undefined): Promise<z.infer<typeof DeviceFile>> {
  if (file === undefined) return { backends: [] };
  try {
    return DeviceFile.parse(JSON.parse(await Deno.readTextFile(file)));
  } catch {
    // Nothing can be placed here then, and the placement says so with this node's name.
    return { backends: [] };
  }
}

/** Where `setup` puts the device facts: beside the library. */
export function deviceFileOf(libraryPath: string): string {
  return join(libraryPath, "..", "device.json");
}

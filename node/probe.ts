import { join } from "node:path";
import { z } from "zod";
import { Backend } from "../core/model_card.ts";
import type { NodeInfo, NodeMemory } from "../core/node_info.ts";

/** What `setup` found out about this machine's devices and wrote beside the library. */
const DeviceFile = z.object({ backends: z.array(Backend) });

/** Memory right now; cheap enough to be asked for at every placement. */
export function probeMemory(): NodeMemory {
  const { total, available } = Deno.systemMemoryInfo();
  const override = Number(Deno.env.get("OVERRIDE_MEMORY_MB"));
  if (Number.isFinite(override) && override > 0) {
    const ramTotalBytes = override * 1024 * 1024;
    return { ramTotalBytes, ramAvailableBytes: Math.min(ramTotalBytes, available) };
  }
  return { ramTotalBytes: total, ramAvailableBytes: available };
}

/** What this machine is, for the cluster to know. `deviceFile` absent: no library, no backends. */
export async function probeNode(
  options: { name?: string | undefined; version: string; deviceFile?: string | undefined },
): Promise<NodeInfo> {
  return {
    friendlyName: options.name ?? Deno.hostname(),
    osVersion: `${Deno.build.os} ${Deno.osRelease()}`,
    chipId: Deno.build.arch,
    exoVersion: options.version,
    backends: options.deviceFile === undefined ? [] : await readBackends(options.deviceFile),
  };
}

async function readBackends(deviceFile: string): Promise<Backend[]> {
  try {
    return DeviceFile.parse(JSON.parse(await Deno.readTextFile(deviceFile))).backends;
  } catch {
    // Nothing can be placed here then, and the placement says so with this node's name.
    return [];
  }
}

/** Where `setup` puts the device facts: beside the library. */
export function deviceFileOf(libraryPath: string): string {
  return join(libraryPath, "..", "device.json");
}

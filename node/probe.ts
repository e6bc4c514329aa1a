import { join } from "node:path";
import { z } from "zod";
import { cgroupMemory } from "../core/cgroup_memory.ts";
import { Backend } from "../core/model_card.ts";
import type { NodeInfo } from "../core/node_info.ts";
import type { NodeMemory } from "../core/telemetry.ts";
import { friendlyName, staticIdentity } from "./info/identity.ts";
import { type InfoSources, SYSTEM_SOURCES } from "./info/sources.ts";

/** How long a node that starts waits for the system to say what it is. */
const IDENTITY_TIMEOUT_MS = 2_000;

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
  if (memoryBytes === undefined) {
    return {
      ramTotalBytes: total,
      ramAvailableBytes: available,
      swapTotalBytes: system.swapTotal,
      swapAvailableBytes: system.swapFree,
    };
  }
  return { ramTotalBytes: memoryBytes, ramAvailableBytes: Math.min(memoryBytes, available) };
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined; // Another system, or another version of control groups.
  }
}

/**
 * What this machine is, for the cluster to know. `deviceFile` absent: no library, no backends. What
 * the system is slow to tell is unknown for now; the gatherer asks again.
 */
export async function probeNode(
  { sources = SYSTEM_SOURCES, ...options }: {
    readonly name?: string | undefined;
    readonly version: string;
    readonly deviceFile?: string | undefined;
    readonly sources?: InfoSources | undefined;
  },
): Promise<NodeInfo> {
  const { signal } = new AbortController();
  const [{ backends, memoryBandwidthBytesPerSecond }, identity, name] = await Promise.all([
    readDevice(options.deviceFile),
    staticIdentity(sources, { timeoutMs: IDENTITY_TIMEOUT_MS, signal }),
    options.name ?? friendlyName(sources, { timeoutMs: IDENTITY_TIMEOUT_MS, signal }),
  ]);
  return {
    friendlyName: name,
    ...identity,
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

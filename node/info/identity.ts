import type { NodeInfo } from "../../core/node_info.ts";
import {
  chipOf,
  firmwareName,
  nvidiaModelOf,
  processorOf,
  systemNameOf,
} from "./linux_identity.ts";
import { hardwareOf, versionOf } from "./mac_identity.ts";
import type { InfoSources } from "./sources.ts";

/** What a machine is, which stays the same while it runs. */
export type StaticIdentity = Pick<
  NodeInfo,
  "machineModel" | "chipId" | "osVersion" | "osBuildVersion"
>;

/** Longest friendly name, as long as a host's may be. */
const NAME_CHARS_MAX = 253;

/** What stands for what the system does not tell. */
export const UNKNOWN = "Unknown";

interface Options {
  /** For each command. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What this machine is: by files on Linux, by Apple's tools on a Mac. */
export async function staticIdentity(
  sources: InfoSources,
  options: Options,
): Promise<StaticIdentity> {
  const bare = {
    machineModel: UNKNOWN,
    chipId: sources.arch,
    osVersion: `${sources.os} ${sources.osRelease()}`,
    osBuildVersion: UNKNOWN,
  };
  if (sources.os === "linux") return { ...bare, ...await linuxIdentity(sources) };
  if (sources.os === "darwin") return { ...bare, ...await macIdentity(sources, options) };
  return bare;
}

async function linuxIdentity(sources: InfoSources): Promise<Partial<StaticIdentity>> {
  const machineModel = firmwareName(await sources.readText("/sys/class/dmi/id/product_name")) ??
    firmwareName(await sources.readText("/proc/device-tree/model"));
  const processor = processorOf(await sources.readText("/proc/cpuinfo")) ?? sources.arch;
  const osVersion = systemNameOf(await sources.readText("/etc/os-release"));
  return {
    ...(machineModel === undefined ? {} : { machineModel }),
    chipId: chipOf(processor, await nvidiaModels(sources)),
    ...(osVersion === undefined ? {} : { osVersion }),
    osBuildVersion: sources.osRelease(),
  };
}

async function nvidiaModels(sources: InfoSources): Promise<string[]> {
  const root = "/proc/driver/nvidia/gpus";
  const models: string[] = [];
  for (const address of await sources.list(root)) {
    const model = nvidiaModelOf(await sources.readText(`${root}/${address}/information`));
    if (model !== undefined) models.push(model);
  }
  return models;
}

async function macIdentity(
  sources: InfoSources,
  options: Options,
): Promise<Partial<StaticIdentity>> {
  const [hardware, version] = await Promise.all([
    sources.run(["system_profiler", "SPHardwareDataType"], options),
    sources.run(["sw_vers"], options),
  ]);
  return {
    ...(hardware.ok ? hardwareOf(hardware.text) : {}),
    ...(version.ok ? versionOf(version.text) : {}),
  };
}

/** What its owner calls this machine. */
export async function friendlyName(sources: InfoSources, options: Options): Promise<string> {
  const host = sources.hostname();
  if (sources.os !== "darwin") return host;
  const said = await sources.run(["scutil", "--get", "ComputerName"], options);
  const name = said.ok ? said.text.trim() : "";
  return (name === "" ? host : name).slice(0, NAME_CHARS_MAX);
}

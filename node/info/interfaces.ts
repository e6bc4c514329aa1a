import type { InterfaceType, NetworkInterface } from "../../core/node_info.ts";
import { type HardwarePorts, macInterfaceType } from "./hardware_ports.ts";
import type { InfoSources } from "./sources.ts";

/** Most addresses that a node tells of. */
export const INTERFACES_MAX = 256;

/** Hardware of the kind "Ethernet", as the kernel numbers it (`ARPHRD_ETHER`). */
const ETHERNET_HARDWARE = "1";

/**
 * All addresses of this machine, loopback and link-local ones too, each with what its interface is
 * made of. Sorted, so that two looks at the same machine are equal.
 * @throws when a Mac does not tell its ports.
 */
export async function networkInterfaces(
  sources: InfoSources,
  ports: HardwarePorts,
): Promise<NetworkInterface[]> {
  const addresses = sources.networkInterfaces();
  const names = [...new Set(addresses.map(({ name }) => name))];
  const types = await interfaceTypes(sources, ports, names);
  return addresses
    .map(({ name, address }) => ({
      name,
      ipAddress: address,
      interfaceType: types.get(name) ?? "unknown" as const,
    }))
    .sort((a, b) => compare(a.name, b.name) || compare(a.ipAddress, b.ipAddress))
    .slice(0, INTERFACES_MAX);
}

function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

async function interfaceTypes(
  sources: InfoSources,
  ports: HardwarePorts,
  names: readonly string[],
): Promise<ReadonlyMap<string, InterfaceType>> {
  const types = new Map<string, InterfaceType>();
  if (sources.os === "linux") {
    for (const name of names) types.set(name, await linuxInterfaceType(sources, name));
  } else if (sources.os === "darwin") {
    const portOf = await ports.read(names);
    for (const name of names) types.set(name, macInterfaceType(name, portOf.get(name)));
  }
  return types;
}

/**
 * By what the kernel shows of an interface: radios have a folder for it, Thunderbolt a driver, and
 * cables a speed. What has no device behind it (bridges, tunnels, containers) is not known.
 */
export async function linuxInterfaceType(
  sources: Pick<InfoSources, "readText" | "list" | "linkTarget">,
  name: string,
): Promise<InterfaceType> {
  const folder = `/sys/class/net/${name}`;
  const has = await sources.list(folder);
  if (has.includes("wireless") || has.includes("phy80211")) return "wifi";
  if (!has.includes("device")) return "unknown";
  const driver = await sources.linkTarget(`${folder}/device/driver`);
  if (driver?.split("/").at(-1) === "thunderbolt-net") return "thunderbolt";
  if ((await sources.readText(`${folder}/type`))?.trim() !== ETHERNET_HARDWARE) return "unknown";
  // Of a virtual machine's card, or without a cable, it is −1 or cannot be read.
  return Number(await sources.readText(`${folder}/speed`)) > 0 ? "ethernet" : "maybe_ethernet";
}

import type { ThunderboltBridgeStatus } from "../../core/node_info.ts";
import type { CommandWords } from "./command.ts";

/** Runs a command; undefined when it fails. */
type Ask = (words: CommandWords) => Promise<string | undefined>;

/** A network service of a Mac that is a bridge. */
export interface BridgeService {
  readonly serviceName: string;
  readonly device: string;
}

/** The bridges of `networksetup -listnetworkserviceorder`, whether switched on or off (`*`). */
export function parseBridgeServices(text: string): BridgeService[] {
  const entry = /^\((?:\d+|\*)\) (.*)\n\(Hardware Port: .*, Device: (bridge\d+)\)/gm;
  return [...text.matchAll(entry)].map(([, serviceName = "", device = ""]) => ({
    serviceName: serviceName.trim(),
    device,
  }));
}

/** The interfaces that `ifconfig bridge0` has as members. */
export function parseBridgeMembers(text: string): string[] {
  return [...text.matchAll(/^\s*member: (\S+)/gm)].map(([, member = ""]) => member);
}

/** Whether `networksetup -getnetworkserviceenabled` says yes; undefined when it says neither. */
export function parseServiceEnabled(text: string): boolean | undefined {
  const word = text.trim();
  return word === "Enabled" ? true : word === "Disabled" ? false : undefined;
}

/** Whether RDMA is switched on, of `rdma_ctl status`; undefined when it does not say. */
export function parseRdmaStatus(text: string): boolean | undefined {
  const said = text.toLowerCase();
  return said.includes("enabled") ? true : said.includes("disabled") ? false : undefined;
}

/**
 * The first bridge that has a Thunderbolt port in it. `ports` is `parseHardwarePorts`.
 * @throws when the system does not list its services.
 */
export async function thunderboltBridge(
  ports: ReadonlyMap<string, string>,
  ask: Ask,
): Promise<ThunderboltBridgeStatus> {
  const thunderbolt = new Set(
    [...ports].flatMap(([device, port]) => /^Thunderbolt \d+$/.test(port) ? [device] : []),
  );
  const services = await ask(["networksetup", "-listnetworkserviceorder"]);
  if (services === undefined) throw new Error("networksetup does not list network services");
  for (const { serviceName, device } of parseBridgeServices(services)) {
    const members = parseBridgeMembers(await ask(["ifconfig", device]) ?? "");
    if (!members.some((member) => thunderbolt.has(member))) continue;
    const said = await ask(["networksetup", "-getnetworkserviceenabled", serviceName]);
    return { enabled: parseServiceEnabled(said ?? "") ?? false, exists: true, serviceName };
  }
  return { enabled: false, exists: false };
}

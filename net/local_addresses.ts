/** Where this host may be reached, and how it is told from others. */
import { createHash, randomUUID } from "node:crypto";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { isLoopback } from "./address_book.ts";
import { ADDRESSES_MAX } from "./link_frames.ts";

/** How long the system may take to say which host this is. */
const HOST_ID_TIMEOUT_MS = 2_000;

/** Addresses of the loopback interface that are told. */
const LOOPBACK_ADDRESSES_MAX = 2;

/** As `Deno.networkInterfaces` tells of one address. */
export interface InterfaceAddress {
  readonly name: string;
  readonly family: "IPv4" | "IPv6";
  readonly address: string;
}

/**
 * The multiaddrs at which a port of this host can be dialled: all IPv4 addresses, and IPv6 where an
 * interface has nothing else, `ADDRESSES_MAX` of them at most. Link-local IPv6 is left out: without its zone it leads nowhere.
 */
export function localAddresses(
  port: number,
  interfaces: readonly InterfaceAddress[] = Deno.networkInterfaces(),
): string[] {
  const withIpv4 = new Set(
    interfaces.filter(({ family }) => family === "IPv4").map(({ name }) => name),
  );
  const addresses = interfaces
    .filter(({ name, family }) => family === "IPv4" || !withIpv4.has(name))
    .filter(({ address }) => !/^fe80:/i.test(address))
    .map(({ family, address }) => `/${family === "IPv4" ? "ip4" : "ip6"}/${address}/tcp/${port}`);
  const [outside, inside] = [false, true].map((isInside) =>
    [...new Set(addresses)].filter((address) => isLoopback(address) === isInside)
  ) as [string[], string[]];
  // Without those of the loopback interface nodes of one host would not find each other.
  const told = inside.slice(0, LOOPBACK_ADDRESSES_MAX);
  return [...outside.slice(0, ADDRESSES_MAX - told.length), ...told];
}

/**
 * The same text in all processes that share this loopback interface, and in no other: from the start
 * of the system and, on Linux, the network namespace. Where the system does not tell, each process
 * counts as a host of its own, and reaches the others by their outer addresses.
 */
export async function readHostId(): Promise<string> {
  const parts = Deno.build.os === "darwin"
    ? [await bootSession()]
    : [await readText("/proc/sys/kernel/random/boot_id"), await readLink("/proc/self/ns/net")];
  const known = parts.every((part) => part !== undefined) ? parts.join("\n") : randomUUID();
  return createHash("sha256").update(known).digest("hex");
}

async function bootSession(): Promise<string | undefined> {
  try {
    const options = { timeout: HOST_ID_TIMEOUT_MS };
    const { stdout } = await promisify(execFile)("sysctl", ["-n", "kern.bootsessionuuid"], options);
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch {
    return undefined;
  }
}

async function readLink(path: string): Promise<string | undefined> {
  try {
    return await Deno.readLink(path);
  } catch {
    return undefined;
  }
}

import type { InterfaceType } from "../../core/node_info.ts";
import type { Millis } from "../../core/units.ts";
import type { InfoSources } from "./sources.ts";

/** How long what is known of a Mac's ports is believed. */
const PORTS_AGE_MS_MAX = 60_000;

/** How long the system may take to list them (spec §5). */
const PORTS_TIMEOUT_MS = 10_000;

/** Names of ports by their devices, such as `en0`, of `networksetup -listallhardwareports`. */
export function parseHardwarePorts(text: string): Map<string, string> {
  const ports = new Map<string, string>();
  for (const [, port = "", device = ""] of text.matchAll(/^Hardware Port: (.*)\nDevice: (\S+)/gm)) {
    ports.set(device, port.trim());
  }
  return ports;
}

/** What a Mac's interface is made of, by the name of its port (spec §5). */
export function macInterfaceType(device: string, port: string | undefined): InterfaceType {
  // All that was plugged in later, adapters and Thunderbolt ports alike.
  if (/^en\d+$/.test(device) && device !== "en0" && device !== "en1") return "maybe_ethernet";
  if (port === undefined) return "unknown";
  if (port.includes("Wi-Fi")) return "wifi";
  if (port.includes("Ethernet") || port.includes("LAN")) return "ethernet";
  return port.startsWith("Thunderbolt") ? "thunderbolt" : "unknown";
}

/** A Mac's ports; asked for rarely, since each question starts a process. */
export class HardwarePorts {
  readonly #sources: InfoSources;
  readonly #signal: AbortSignal;
  #ports: ReadonlyMap<string, string> = new Map();
  #askedAt: Millis | undefined;
  /** Devices that were asked for: some have no port, and never will. */
  readonly #askedFor = new Set<string>();
  #asking: Promise<void> | undefined;

  constructor(sources: InfoSources, signal: AbortSignal) {
    this.#sources = sources;
    this.#signal = signal;
  }

  /**
   * Port by device; asked anew when it is old, or one of `devices` is new.
   * @throws when the system does not tell.
   */
  async read(devices: readonly string[] = []): Promise<ReadonlyMap<string, string>> {
    const now = this.#sources.uptime();
    const isOld = this.#askedAt === undefined || now >= this.#askedAt + PORTS_AGE_MS_MAX;
    const isNew = devices.some((device) => !this.#askedFor.has(device));
    for (const device of devices) this.#askedFor.add(device);
    // Whoever else asks meanwhile gets the same answer.
    if (isOld || isNew) await (this.#asking ??= this.#ask());
    return this.#ports;
  }

  async #ask(): Promise<void> {
    try {
      const words = ["networksetup", "-listallhardwareports"] as const;
      const options = { timeoutMs: PORTS_TIMEOUT_MS, signal: this.#signal };
      const said = await this.#sources.run(words, options);
      if (!said.ok) throw new Error(`${words.join(" ")}: ${said.reason}`);
      this.#ports = parseHardwarePorts(said.text);
      this.#askedAt = this.#sources.uptime();
    } finally {
      this.#asking = undefined;
    }
  }
}

import type { CommandWords } from "./command.ts";
import type { Gathering } from "./gathering.ts";
import type { HardwarePorts } from "./hardware_ports.ts";
import { repeat } from "./repeat.ts";
import { parseThunderbolt } from "./thunderbolt.ts";
import { parseRdmaStatus, thunderboltBridge } from "./thunderbolt_bridge.ts";

/** How often cables are looked at where RDMA is on, so that one that is pulled is soon known. */
export const CABLES_MS = 5_000;

/** And where it is off: a look takes the system a tenth of a second. */
export const CABLES_IDLE_MS = 60_000;

const CABLES_TIMEOUT_MS = 30_000;
const RDMA_MS = 10_000;
const RDMA_TIMEOUT_MS = 5_000;
const BRIDGE_MS = 10_000;
const BRIDGE_TIMEOUT_MS = 30_000;

/** Tells of a Mac's Thunderbolt: its ports, cables, bridge, and whether RDMA is on (spec §5). */
export async function watchCables(gathering: Gathering, ports: HardwarePorts): Promise<void> {
  const rdma = new Rdma();
  await Promise.all([
    rdma.watch(gathering),
    rdma.known.then(() => watchPorts(gathering, ports, rdma)),
    watchBridge(gathering, ports),
  ]);
}

/** Whether RDMA is switched on, which takes another start of the Mac to change. */
class Rdma {
  isOn = false;
  readonly #known = Promise.withResolvers<void>();
  /** Resolves once it was looked at. */
  readonly known = this.#known.promise;

  async watch({ sources, signal, tell }: Gathering): Promise<void> {
    const options = { timeoutMs: RDMA_TIMEOUT_MS, signal };
    const work = async () => {
      const said = await sources.run(["rdma_ctl", "status"], options);
      // An older system without it; it will not come while this one runs.
      if (!said.ok && said.isMissing) return "over";
      const enabled = said.ok ? parseRdmaStatus(said.text) : undefined;
      if (enabled !== undefined) {
        this.isOn = enabled;
        tell({ type: "RdmaCtlStatus", enabled });
      }
      this.#known.resolve();
      return undefined;
    };
    await repeat("whether RDMA is on", work, { everyMs: RDMA_MS, sources, signal });
    this.#known.resolve();
  }
}

function watchPorts(
  { sources, signal, tell }: Gathering,
  ports: HardwarePorts,
  rdma: Rdma,
): Promise<void> {
  const words = ["system_profiler", "SPThunderboltDataType", "-json"] as const;
  const work = async () => {
    const said = await sources.run(words, { timeoutMs: CABLES_TIMEOUT_MS, signal });
    if (!said.ok) throw new Error(`${words.join(" ")}: ${said.reason}`);
    const { idents, connections } = parseThunderbolt(said.text, await ports.read());
    tell({ type: "MacThunderboltIdentifiers", idents });
    tell({ type: "MacThunderboltConnections", connections });
  };
  const everyMs = () => rdma.isOn ? CABLES_MS : CABLES_IDLE_MS;
  return repeat("Thunderbolt ports", work, { everyMs, sources, signal });
}

function watchBridge({ sources, signal, tell }: Gathering, ports: HardwarePorts): Promise<void> {
  const ask = async (words: CommandWords) => {
    const said = await sources.run(words, { timeoutMs: BRIDGE_TIMEOUT_MS, signal });
    return said.ok ? said.text : undefined;
  };
  const work = async () => {
    const status = await thunderboltBridge(await ports.read(), ask);
    tell({ type: "ThunderboltBridgeInfo", status });
  };
  return repeat("the Thunderbolt bridge", work, { everyMs: BRIDGE_MS, sources, signal });
}

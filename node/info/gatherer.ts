import type { NodeId, RunnerId } from "../../core/ids.ts";
import type { GatheredInfo, NodeInfo } from "../../core/node_info.ts";
import type { Event } from "../../core/events.ts";
import { isSame } from "../../core/same.ts";
import type { NodeDisk, NodeMemory, NodeSystem } from "../../core/telemetry.ts";
import { type Gathering, inTime } from "./gathering.ts";
import { Gpu } from "./gpu.ts";
import { HardwarePorts } from "./hardware_ports.ts";
import { friendlyName, staticIdentity, UNKNOWN } from "./identity.ts";
import { networkInterfaces } from "./interfaces.ts";
import { watchCables } from "./mac_cables.ts";
import { repeat } from "./repeat.ts";
import { type InfoSources, SYSTEM_SOURCES } from "./sources.ts";
import { watchSystem, withGpu } from "./system.ts";

/** Intervals and limits of spec §5. */
const NETWORK_MS = 10_000;
const DISK_MS = 30_000;
const DISK_TIMEOUT_MS = 5_000;
const NAME_TIMEOUT_MS = 10_000;
const IDENTITY_MS = 60_000;
const IDENTITY_TIMEOUT_MS = 30_000;

/** What a gatherer works with. */
export interface GathererDeps {
  readonly nodeId: NodeId;
  /** A folder of the volume that models are kept on. */
  readonly modelsFolder: string;
  readonly report: (event: Event) => Promise<void>;
  readonly measured: (
    values: { readonly disk?: NodeDisk; readonly system?: NodeSystem },
  ) => void;
  readonly loadedRunners: () => readonly RunnerId[];
  readonly sources?: InfoSources | undefined;
}

/** What the node has said of itself when it started. */
export interface StartedAs {
  readonly incarnation: number;
  readonly info: NodeInfo;
  /** Its user gave it its name, so the system's does not count. */
  readonly isNamed: boolean;
}

/**
 * Finds out what this node is, has and reaches, for as long as it runs: facts are reported when
 * they change, latest values are handed on as they are measured.
 */
export class NodeInfoGatherer {
  readonly #deps: GathererDeps;
  readonly #sources: InfoSources;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #told = new Map<GatheredInfo["type"], GatheredInfo>();
  readonly #gpu: Gpu;
  #incarnation = 0;
  #system: NodeSystem = {};

  constructor(deps: GathererDeps) {
    this.#deps = deps;
    this.#sources = deps.sources ?? SYSTEM_SOURCES;
    this.#gpu = new Gpu(deps.loadedRunners);
  }

  /** Looks for a GPU with memory of its own; resolves when it is known, in 10 s at most. */
  watchGpu(): Promise<void> {
    return new Promise((onFirst) => {
      const onSample = () => this.#tellSystem();
      this.#loops.push(this.#gpu.watch(this.#gathering(), { onSample, onFirst }));
    });
  }

  /** The memory of a GPU, if there is one, and the runners that were in memory when it was read. */
  memory(): Pick<NodeMemory, "gpu" | "loadedRunners"> {
    return this.#gpu.memory() ?? { loadedRunners: this.#deps.loadedRunners() };
  }

  /** From now on the node is known, and what is found out about it is told. */
  start({ incarnation, info, isNamed }: StartedAs): void {
    if (this.#stop.signal.aborted) return;
    this.#incarnation = incarnation;
    const { friendlyName, machineModel, chipId, osVersion, osBuildVersion } = info;
    const identity = { machineModel, chipId, osVersion, osBuildVersion };
    this.#told.set("MiscData", { type: "MiscData", friendlyName });
    this.#told.set("StaticNodeInformation", { type: "StaticNodeInformation", ...identity });
    const gathering = this.#gathering();
    const { sources, signal } = gathering;
    const ports = new HardwarePorts(sources, signal);
    this.#loops.push(
      watchNetwork(gathering, ports),
      watchIdentity(gathering, isNamed, machineModel === UNKNOWN),
      this.#watchDisk(),
      watchSystem(gathering, (system) => {
        this.#system = system;
        this.#tellSystem();
      }),
    );
    if (sources.os === "darwin") this.#loops.push(watchCables(gathering, ports));
  }

  /** Ends timers and processes; resolves when none is left. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops);
  }

  #gathering(): Gathering {
    return { sources: this.#sources, signal: this.#stop.signal, tell: (info) => this.#tell(info) };
  }

  #tell(info: GatheredInfo): void {
    if (this.#stop.signal.aborted || isSame(this.#told.get(info.type), info)) return;
    this.#told.set(info.type, info);
    const { nodeId, report } = this.#deps;
    const incarnation = this.#incarnation;
    void report({ type: "NodeGatheredInfo", nodeId, incarnation, info });
  }

  #tellSystem(): void {
    const system = withGpu(this.#system, this.#gpu.sample);
    const isKnown = Object.values(system).some((figure) => figure !== undefined);
    if (isKnown && !this.#stop.signal.aborted) this.#deps.measured({ system });
  }

  #watchDisk(): Promise<void> {
    const sources = this.#sources;
    const { signal } = this.#stop;
    const { modelsFolder, measured } = this.#deps;
    let asked: Promise<NodeDisk> | undefined;
    const work = async () => {
      // A file server that is away answers none of them: one question waits, not one each time.
      asked ??= sources.disk(modelsFolder).finally(() => asked = undefined);
      const disk = await inTime(asked, { sources, signal, timeoutMs: DISK_TIMEOUT_MS });
      if (signal.aborted) return;
      if (!disk) throw new Error(`"${modelsFolder}" took longer than ${DISK_TIMEOUT_MS} ms`);
      measured({ disk });
    };
    return repeat("how full the disk is", work, { everyMs: DISK_MS, sources, signal });
  }
}

function watchNetwork({ sources, signal, tell }: Gathering, ports: HardwarePorts): Promise<void> {
  const work = async () =>
    tell({ type: "NodeNetworkInterfaces", interfaces: await networkInterfaces(sources, ports) });
  return repeat("network interfaces", work, { everyMs: NETWORK_MS, sources, signal });
}

/** The name may change at any time; what the machine is only becomes known, where it was slow. */
function watchIdentity(
  { sources, signal, tell }: Gathering,
  isNamed: boolean,
  isUnknown: boolean,
): Promise<void> {
  let isSought = isUnknown && sources.os === "darwin";
  const work = async () => {
    if (!isNamed) {
      const options = { timeoutMs: NAME_TIMEOUT_MS, signal };
      tell({ type: "MiscData", friendlyName: await friendlyName(sources, options) });
    }
    if (isSought) {
      const identity = await staticIdentity(sources, { timeoutMs: IDENTITY_TIMEOUT_MS, signal });
      isSought = identity.machineModel === UNKNOWN;
      tell({ type: "StaticNodeInformation", ...identity });
    }
    return isNamed && !isSought ? "over" : undefined;
  };
  return repeat("what this machine is", work, { everyMs: IDENTITY_MS, sources, signal });
}

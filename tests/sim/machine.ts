import type { GatheredInfo, NodeInfo } from "../../core/node_info.ts";
import type { LinkQuality } from "../../core/telemetry.ts";

/** What a machine is like. */
export interface MachineFacts {
  readonly ramTotalBytes: number;
  /** Taken by everything else that runs there. */
  readonly ramBaseBytes: number;
  readonly links: ReadonlyMap<string, LinkQuality>;
}

/** After so many starts of its process a machine has another address. */
const LEASE_STARTS = 3;

/** The address of a machine whose process has been started so often. */
export function ipOf(machine: number, starts: number): string {
  return `10.0.${Math.floor(starts / LEASE_STARTS) % 256}.${machine + 1}`;
}

/** Where a machine listens. */
export function multiaddrOf(machine: number, starts: number): string {
  return `/ip4/${ipOf(machine, starts)}/tcp/52414`;
}

/** Whether a machine listens there, or did once. */
export function isOfMachine(multiaddr: string, machine: number): boolean {
  return multiaddr.endsWith(`.${machine + 1}/tcp/52414`);
}

/** What a machine reports of itself when all machines have cables to each other. */
export function cablesOf(machine: number, machines: number): GatheredInfo[] {
  const others = Array.from({ length: machines }, (_, at) => at).filter((at) => at !== machine);
  return [
    { type: "RdmaCtlStatus", enabled: true },
    {
      type: "MacThunderboltIdentifiers",
      idents: others.map((other) => ({
        rdmaInterface: `rdma_en${other}`,
        domainUuid: `${machine}-${other}`,
        linkSpeed: "80 Gb/s",
      })),
    },
    {
      type: "MacThunderboltConnections",
      connections: others.map((other) => ({
        sourceUuid: `${machine}-${other}`,
        sinkUuid: `${other}-${machine}`,
      })),
    },
  ];
}

/** What a node says of itself when it starts. */
export function infoOf(friendlyName: string, isCabled: boolean): NodeInfo {
  return {
    friendlyName,
    machineModel: "Unknown",
    chipId: "x86_64",
    osVersion: "linux",
    osBuildVersion: "Unknown",
    exoVersion: "0",
    backends: [isCabled ? "MlxMetal" as const : "MlxCpu" as const],
  };
}

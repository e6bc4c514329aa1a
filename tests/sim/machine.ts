import type { GatheredInfo, NodeInfo } from "../../core/node_info.ts";
import type { LinkQuality } from "../../core/telemetry.ts";

/** What a machine is like. */
export interface MachineFacts {
  readonly ramTotalBytes: number;
  /** Taken by everything else that runs there. */
  readonly ramBaseBytes: number;
  readonly links: ReadonlyMap<string, LinkQuality>;
}

/** Where a machine listens. */
export function multiaddrOf(machine: number): string {
  return `/ip4/10.0.0.${machine + 1}/tcp/52414`;
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

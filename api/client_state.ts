import type { EngineStats } from "../core/engine_stats.ts";
import type { InstanceConfig } from "../core/instance.ts";
import type { MetaInstanceView } from "./client_placement.ts";

/** An instance with its tag: `{MlxRingInstance: {…}}`. */
export type TaggedInstance = Readonly<Record<string, InstanceView>>;

/** What of a model a rank has. */
export interface ShardView {
  readonly deviceRank: number;
  readonly worldSize: number;
  readonly startLayer: number;
  readonly endLayer: number;
  readonly nLayers: number;
}

/** What commands read of an instance. */
export interface InstanceView {
  readonly instanceId: string;
  readonly shardAssignments: {
    readonly modelId: string;
    readonly nodeToRunner: Readonly<Record<string, string>>;
    /** Each with its tag: `{PipelineShardMetadata: {…}}`. */
    readonly runnerToShard: Readonly<Record<string, Readonly<Record<string, ShardView>>>>;
  };
  readonly config?: InstanceConfig;
  readonly metaInstanceId?: string;
}

/** Values by their ids. */
export type Table<T> = Readonly<Record<string, T>>;

type Tagged = Table<Readonly<Record<string, unknown>>>;

/** One way from a node to another, with how good it is where that was measured. */
export interface EdgeView {
  readonly sinkMultiaddr?: { readonly address: string };
  readonly sourceRdmaIface?: string;
  readonly sinkRdmaIface?: string;
  readonly bandwidthBitsPerSecond?: number;
  readonly latencyMs?: number;
}

/** What a node says of itself. */
export interface NodeIdentityView {
  readonly friendlyName: string;
  readonly exoVersion: string;
  /** Model of the machine, and its processor; `Unknown` when nobody could tell. */
  readonly modelId: string;
  readonly chipId: string;
}

/** One address of a node. */
export interface InterfaceView {
  readonly name: string;
  readonly ipAddress: string;
  readonly interfaceType: string;
}

/** What commands read of `GET /state`. */
export interface StateView {
  readonly lastEventAppliedIdx: number;
  readonly session: { readonly masterNodeId: string; readonly epoch: number } | null;
  readonly instances: Table<TaggedInstance>;
  readonly metaInstances: Table<MetaInstanceView>;
  readonly instanceRetries: Table<{ readonly attempts: number; readonly lastError: string }>;
  /** Only of instances whose runner has told of its engine. */
  readonly instanceStats: Table<EngineStats>;
  readonly runners: Table<Tagged>;
  readonly tasks: Table<Tagged>;
  readonly downloads: Table<readonly Tagged[]>;
  readonly nodeIdentities: Table<NodeIdentityView>;
  readonly nodeNetwork: Table<{ readonly interfaces: readonly InterfaceView[] }>;
  readonly topology: {
    readonly nodes: readonly string[];
    readonly connections: Table<Table<readonly EdgeView[]>>;
  };
  readonly nodeBackends: Table<readonly string[]>;
  readonly nodeMemory: Table<{
    readonly ramTotal: { readonly inBytes: number };
    readonly ramAvailable: { readonly inBytes: number };
    /** Of the GPU that models compute on; absent: none, or it shares the machine's. */
    readonly gpuTotal?: { readonly inBytes: number };
    readonly gpuAvailable?: { readonly inBytes: number };
  }>;
  /** The volume that models are kept on. */
  readonly nodeDisk: Table<{
    readonly total: { readonly inBytes: number };
    readonly available: { readonly inBytes: number };
  }>;
  /** As far as each machine tells; usages are from 0 to 1, `temp` in °C, `sysPower` in watts. */
  readonly nodeSystem: Table<{
    readonly gpuUsage?: number;
    readonly temp?: number;
    readonly sysPower?: number;
    readonly pcpuUsage?: number;
    readonly ecpuUsage?: number;
    readonly cpuUsage?: number;
  }>;
}

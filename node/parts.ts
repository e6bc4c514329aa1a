import { join } from "node:path";
import type { CardLookup } from "../core/meta_instance_placement.ts";
import type { ModelId, NodeId } from "../core/ids.ts";
import type { PortRange } from "../core/ports.ts";
import { Bulk } from "../net/bulk.ts";
import type { Transport } from "../net/transport.ts";
import { type Clock, SYSTEM_CLOCK } from "./clock.ts";
import { ControlPlane } from "./control_plane.ts";
import type { EventLog } from "./event_log.ts";
import { Gateway } from "./gateway.ts";
import type { Identity } from "./identity.ts";
import { NodeInfoGatherer } from "./info/gatherer.ts";
import type { InfoSources } from "./info/sources.ts";
import { LinkWatch } from "./link_watch.ts";
import type { ModelCards } from "./model_cards.ts";
import { ModelStore } from "./model_store.ts";
import { probeMemory } from "./probe.ts";
import { Replica } from "./replica.ts";
import { Reporter } from "./reporter.ts";
import { SideChannels } from "./side_channel.ts";
import type { RunnerLaunch } from "./runner_process.ts";
import type { Storage } from "./storage.ts";
import { TraceStore } from "./trace_store.ts";
import { Worker } from "./worker.ts";

/** Name of the counter that gives each start of the node and each runner its incarnation. */
export const INCARNATION = "incarnation";

/** How a node is started. */
export interface NodeOptions {
  /** Where identity and log live; made if it is missing. */
  readonly dataDir: string;
  readonly version: string;
  /** Joins the network as this node; absent: there is no other node. */
  readonly connect?: ((identity: Identity) => Promise<Transport>) | undefined;
  /** How to start a runner process. */
  readonly launch: RunnerLaunch;
  /** The device facts that `setup` wrote; absent: this node computes nothing. */
  readonly deviceFile?: string | undefined;
  /** Friendly name; the host's name when absent. */
  readonly name?: string | undefined;
  readonly clock?: Clock | undefined;
  /** What is read of the machine; absent: this one. */
  readonly sources?: InfoSources | undefined;
  /** Limit on the loading of a layer; absent: by the size of the model, 0: none. */
  readonly loadTimeoutMs?: number | undefined;
  /** Whether the ranks of a group over RDMA find each other through the cluster, by named pipes. */
  readonly hasSideChannels?: boolean | undefined;
  /** Memory that this machine is said to have; absent: what it has. */
  readonly memoryBytes?: number | undefined;
  /** Where the traces of tasks are kept; absent: in the data directory. */
  readonly tracesDir?: string | undefined;
  /** Where ranks of instances meet that are asked for here; absent: at any dynamic port. */
  readonly ringPorts?: PortRange | undefined;
  /** The files that come with exo, where they are not the program's own. */
  readonly resourcesDir?: string | undefined;
}

/** What the parts of a node share. */
export interface Parts {
  readonly nodeId: NodeId;
  readonly clock: Clock;
  readonly eventLog: EventLog;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly control: ControlPlane;
  readonly gateway: Gateway;
  readonly reporter: Reporter;
  readonly links: LinkWatch;
  readonly bulk: Bulk;
  readonly models: ModelStore;
  readonly cards: ModelCards;
  readonly traces: TraceStore;
  readonly worker: Worker;
  readonly gatherer: NodeInfoGatherer;
}

/** Makes the parts of a node; nothing runs yet. */
export function assemble(
  transport: Transport,
  { eventLog, left }: Pick<Storage, "eventLog" | "left">,
  options: NodeOptions & { readonly cards: ModelCards },
): Parts {
  const clock = options.clock ?? SYSTEM_CLOCK;
  const { self: nodeId } = transport;
  const replica = new Replica(left.state, left.branch);
  const memory = () => {
    const measured = probeMemory(options.memoryBytes);
    // Memory that is only said to be there gets no less when weights are loaded.
    if (options.memoryBytes !== undefined) return measured;
    return { ...measured, ...gatherer.memory() };
  };
  const lookUpCard = (modelId: ModelId): CardLookup => {
    const modelCard = options.cards.cards.get(modelId);
    if (modelCard) return { ok: true, modelCard };
    return { ok: false, reason: "this node has none, and there is no hub to ask" };
  };
  const control: ControlPlane = new ControlPlane({
    nodeId,
    eventLog,
    replica,
    transport,
    clock,
    memory,
    lookUpCard: (modelId) => Promise.resolve(lookUpCard(modelId)),
    left,
  });
  const reporter = new Reporter(nodeId, replica, (facts) => control.report(facts));
  const bulk = new Bulk(transport, { newToken: () => clock.newId() });
  const links = new LinkWatch({ nodeId, transport, reporter, control, bulk, clock });
  const gateway = new Gateway({ nodeId, replica, transport, clock, control, reporter });
  const models = new ModelStore(eventLog);
  const traces = new TraceStore(options.tracesDir ?? join(options.dataDir, "traces"));
  const sideChannels = options.hasSideChannels ? sideChannelsOf(control) : undefined;
  const worker = new Worker({
    nodeId,
    replica,
    transport,
    reporter,
    models,
    clock,
    launch: options.launch,
    loadTimeoutMs: options.loadTimeoutMs,
    sideChannels,
    nextIncarnation: () => eventLog.nextCounter(INCARNATION),
    traces,
  });
  const gatherer = new NodeInfoGatherer({
    nodeId,
    modelsFolder: options.dataDir,
    report: (event) => reporter.report(event),
    measured: (values) => control.measured(values),
    loadedRunners: () => worker.loadedRunners(),
    sources: options.sources,
  });
  return {
    nodeId,
    clock,
    eventLog,
    replica,
    transport,
    control,
    gateway,
    reporter,
    links,
    bulk,
    models,
    cards: options.cards,
    traces,
    worker,
    gatherer,
  };
}

function sideChannelsOf(control: ControlPlane): SideChannels {
  return new SideChannels((piece) => control.gather(piece));
}

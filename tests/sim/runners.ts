import type { InstanceId, ModelId, RunnerId, TaskId } from "../../core/ids.ts";
import { groupIdOf } from "../../core/group.ts";
import { type Host, type Instance, nodesByRank, type Shard } from "../../core/instance.ts";
import type { Incarnations, LocalRunner } from "../../core/plan.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import type { TaskStatus } from "../../core/task.ts";
import type { Random } from "../support/random.ts";
import type { Marks } from "./marks.ts";
import type { Schedule } from "./schedule.ts";

/** Limits of the worker on its runners; shorter than the real ones, so that runs are short. */
const CONNECT_TIMEOUT_MS = 15_000;
const LOAD_TIMEOUT_MS = 12_000;
const STALL_MS = 10_000;

/** How long a look at a stalled group waits for the next. */
const STALL_LOOK_MS = 500;

/** What loading a model is like. */
export type Temper = "normal" | "slow" | "never" | "flaky";

/** What the runners of a world share. */
export interface RunnerWorld {
  readonly schedule: Schedule;
  readonly random: Random;
  readonly marks: Marks;
  /** By the names of their groups. */
  readonly rings: Map<string, Ring>;
  temperOf(modelId: ModelId): Temper;
  /** What address a machine has now. */
  ipOf(machine: number): string;
  /** Whether bytes flow between two machines. */
  isOpen(a: number, b: number): boolean;
}

/** What a runner tells its worker. */
export interface RunnerListener {
  statusChanged(runner: SimRunner): void;
  taskChanged(runner: SimRunner, taskId: TaskId, status: TaskStatus): void;
  /** A token, or the last word of a generation. */
  token(runner: SimRunner, taskId: TaskId, isLast: boolean): void;
  ended(runner: SimRunner): void;
}

/** The processes of an instance that have found each other. */
export class Ring {
  readonly members = new Map<number, SimRunner>();
  constructor(readonly groupId: string, readonly size: number) {}

  get isComplete(): boolean {
    return this.members.size === this.size;
  }
}

/** Where a runner belongs. */
export interface RunnerPlace {
  readonly runnerId: RunnerId;
  readonly instance: Instance;
  readonly shard: Shard;
  readonly machine: number;
  readonly incarnation: number;
}

/** A runner process without a model: the right statuses in the right order, and every mishap. */
export class SimRunner implements LocalRunner {
  readonly instanceId: InstanceId;
  readonly dispatched = new Set<TaskId>();
  readonly cancelled = new Set<TaskId>();
  readonly running = new Set<TaskId>();
  peers: Incarnations = new Map();
  status: RunnerStatus = { type: "RunnerIdle" };
  busy = true;
  stopping = false;
  isAlive = true;
  /** Weights that it holds in memory. */
  loadedBytes = 0;
  #ring: Ring | undefined;

  constructor(
    readonly place: RunnerPlace,
    readonly world: RunnerWorld,
    readonly listener: RunnerListener,
  ) {
    this.instanceId = place.instance.instanceId;
    this.#later(50, 800, () => {
      this.busy = false;
      this.#become({ type: "RunnerIdle" });
    });
  }

  get incarnation(): number {
    return this.place.incarnation;
  }

  connect(peers: Incarnations, instance: Instance): void {
    this.peers = peers;
    this.busy = true;
    const own = hostOf(instance, this.place.shard.deviceRank);
    const ip = this.world.ipOf(this.place.machine);
    if (own && own.ip !== ip) {
      this.world.marks.hit("fault: address gone");
      const found = "this machine has no such address";
      return this.#later(10, 200, () => this.fail(`Cannot listen at ${own.ip}: ${found}`));
    }
    const ports = portsOf(instance, this.place.shard.deviceRank);
    const port = ports.find((one) => isTaken(this.place.machine, one));
    if (port !== undefined) {
      this.world.marks.hit("fault: port taken");
      return this.#later(10, 200, () => this.fail(`Cannot listen at port ${port}: in use`));
    }
    const { runnerId, shard } = this.place;
    this.#later(10, 200, () => {
      this.busy = false;
      const groupId = groupIdOf(instance, new Map([...peers, [runnerId, this.incarnation]]));
      this.#become({ type: "RunnerConnecting", groupId });
      const ring = this.#join(groupId, shard.deviceRank, shard.worldSize);
      this.world.schedule.after(CONNECT_TIMEOUT_MS, () => {
        if (this.status.type === "RunnerConnecting") this.fail("no group within 15 s");
      });
      if (!ring.isComplete) return;
      this.#whenOpen(() => {
        for (const member of ring.members.values()) {
          if (member.status.type === "RunnerConnecting") {
            member.#become({ type: "RunnerConnected" });
          }
        }
      });
    });
  }

  load(): void {
    const { marks, random } = this.world;
    const { modelCard, startLayer, endLayer, nLayers } = this.place.shard;
    const temper = this.world.temperOf(modelCard.modelId);
    this.busy = true;
    const totalLayers = endLayer - startLayer;
    this.#later(10, 200, () => {
      this.#become({ type: "RunnerLoading", layersLoaded: 0, totalLayers });
      this.loadedBytes = Math.floor(modelCard.storageSize.inBytes * totalLayers / nLayers);
      if (temper === "never") {
        marks.hit("fault: model never loads");
        return this.world.schedule.after(
          LOAD_TIMEOUT_MS,
          () => this.status.type === "RunnerLoading" && this.fail("no layer within 12 s"),
        );
      }
      if (temper === "flaky" && random.below(2) === 0) {
        return this.#later(100, 2_000, () => this.fail("out of memory"));
      }
      if (temper === "slow") marks.hit("fault: model loads slowly");
      const [low, high] = temper === "slow" ? [5_000, 30_000] : [100, 2_000];
      this.#later(low / 2, high / 2, () => {
        this.#become({ type: "RunnerLoading", layersLoaded: totalLayers >> 1, totalLayers });
        this.#later(low / 2, high / 2, () => {
          this.busy = false;
          this.#become({ type: "RunnerLoaded" });
        });
      });
    });
  }

  warmUp(): void {
    this.busy = true;
    this.#later(5, 50, () => {
      this.busy = false;
      this.#become({ type: "RunnerWarmingUp" });
      // The first rank leads: the others have nothing of their own to warm up.
      if (this.place.shard.deviceRank > 0) return this.#become({ type: "RunnerReady" });
      this.#whenOpen(() => this.#become({ type: "RunnerReady" }));
    });
  }

  /** A generation; the first rank alone is given it, and leads the others. */
  generate(taskId: TaskId, tokens: number): void {
    if (this.cancelled.has(taskId)) return;
    this.#begin(taskId);
    this.listener.taskChanged(this, taskId, "Running");
    this.#stepTask(taskId, tokens);
  }

  cancel(taskId: TaskId): void {
    this.cancelled.add(taskId);
    if (this.running.has(taskId)) return;
    this.#over(taskId);
  }

  /** What the worker no longer follows. */
  forget(isOver: (taskId: TaskId) => boolean): void {
    for (const taskId of this.dispatched) {
      if (!isOver(taskId) || this.running.has(taskId)) continue;
      this.dispatched.delete(taskId);
      this.cancelled.delete(taskId);
    }
  }

  /** The process dies by itself. */
  fail(reason: string): void {
    if (!this.isAlive) return;
    this.#end();
    this.stopping = true;
    this.status = { type: "RunnerFailed", reason, diagnostics: [] };
    this.listener.statusChanged(this);
  }

  /** The worker ends it. */
  stop(): void {
    this.stopping = true;
    this.#later(20, 1_000, () => {
      this.#end();
      this.listener.ended(this);
    });
  }

  /** The machine is gone, or the node with all its children. */
  kill(): void {
    this.#end();
  }

  #begin(taskId: TaskId): void {
    this.running.add(taskId);
    if (this.status.type === "RunnerReady") this.#become({ type: "RunnerRunning" });
  }

  #stepTask(taskId: TaskId, left: number): void {
    this.#later(20, 150, () => {
      if (this.cancelled.has(taskId)) {
        this.#over(taskId);
        return this.listener.taskChanged(this, taskId, "Cancelled");
      }
      this.#whenOpen(() => {
        this.listener.token(this, taskId, left <= 1);
        if (left > 1) return this.#stepTask(taskId, left - 1);
        this.#over(taskId);
        this.listener.taskChanged(this, taskId, "Complete");
      });
    });
  }

  #over(taskId: TaskId): void {
    this.running.delete(taskId);
    if (this.running.size === 0 && this.status.type === "RunnerRunning") {
      this.#become({ type: "RunnerReady" });
    }
  }

  /** All ranks of the group, by rank; itself when it is alone. */
  #members(): SimRunner[] {
    if (!this.#ring) return [this];
    return [...this.#ring.members].sort(([a], [b]) => a - b).map(([, member]) => member);
  }

  #join(groupId: string, rank: number, size: number): Ring {
    const { rings } = this.world;
    const ring = rings.get(groupId) ?? new Ring(groupId, size);
    rings.set(groupId, ring);
    ring.members.set(rank, this);
    this.#ring = ring;
    return ring;
  }

  /** Goes on once all ranks reach each other; a step that stalls for too long is a failure. */
  #whenOpen(then: () => void, waited = 0): void {
    const members = this.#members();
    const isOpen = members.every((member, at) => {
      const next = members[(at + 1) % members.length] as SimRunner;
      return this.world.isOpen(member.place.machine, next.place.machine);
    });
    if (isOpen) return then();
    if (waited > STALL_MS) return this.fail("no step within 10 s");
    this.#later(STALL_LOOK_MS, STALL_LOOK_MS + 1, () => {
      this.#whenOpen(then, waited + STALL_LOOK_MS);
    });
  }

  #end(): void {
    this.isAlive = false;
    this.loadedBytes = 0;
    this.running.clear();
    const ring = this.#ring;
    if (!ring) return;
    const wasComplete = ring.isComplete;
    ring.members.delete(this.place.shard.deviceRank);
    if (ring.members.size === 0) this.world.rings.delete(ring.groupId);
    if (!wasComplete) return;
    for (const member of ring.members.values()) {
      if (member.status.type === "RunnerConnecting") continue;
      member.#later(50, 3_000, () => member.fail("the ring broke"));
    }
  }

  #become(status: RunnerStatus): void {
    this.status = status;
    this.listener.statusChanged(this);
  }

  #later(lowMs: number, highMs: number, then: () => void): void {
    const delay = lowMs + this.world.random.below(Math.max(1, Math.floor(highMs - lowMs)));
    this.world.schedule.after(delay, () => this.isAlive && then());
  }
}

function hostOf(instance: Instance, rank: number): Host | undefined {
  const nodeId = nodesByRank(instance)[rank];
  return nodeId === undefined ? undefined : instance.hostsByNode[nodeId]?.[rank];
}

/** Where a rank listens: in the ring, and the first one over RDMA as its coordinator. */
function portsOf(instance: Instance, rank: number): number[] {
  const ring = hostOf(instance, rank)?.port;
  const [address] = instance.type === "MlxJacclInstance" && rank === 0
    ? Object.values(instance.jacclCoordinators)
    : [];
  const coordinator = Number(/:(\d+)$/.exec(address ?? "")?.[1]) || undefined;
  return [ring, coordinator].filter((port) => port !== undefined);
}

/** Every so many ports of a machine some other program has one. */
const TAKEN_EVERY = 11;

function isTaken(machine: number, port: number): boolean {
  return (port + 5 * machine) % TAKEN_EVERY === 0;
}

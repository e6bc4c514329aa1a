import type { Chunk } from "../core/chunk.ts";
import type { EngineStats } from "../core/engine_stats.ts";
import type { ErrorInfo } from "../core/errors.ts";
import type { RunnerCommand } from "../core/frames.ts";
import type { InstanceId, ModelId, TaskId } from "../core/ids.ts";
import { JOIN_TIMEOUT_MS } from "../core/group.ts";
import { type Instance, runnersOf, type Shard } from "../core/instance.ts";
import { shareOf } from "../core/memory_fit.ts";
import type { Incarnations, LocalRunner } from "../core/plan.ts";
import { isServing, type RunnerStatus } from "../core/runner_status.ts";
import { chunkCame, NO_STEPS, stepLimit, stepsCounted, workBegan } from "../core/step_watch.ts";
import type { TaskStatus } from "../core/task.ts";
import { GIB, type Millis } from "../core/units.ts";
import type { GenerationRelay } from "./generation_relay.ts";
import type { RunnerLimit } from "./runner_limits.ts";
import type { RunnerProcess } from "./runner_process.ts";
import type { SideChannel } from "./side_channel.ts";

/** How long a process may take to report that it is up. */
export const START_TIMEOUT_MS = 30_000;

/** Longest wait for the next layer: a base, and a second per GiB of the shard (spec worker S7). */
export const LOAD_TIMEOUT_MS = 300_000;
const LOAD_TIMEOUT_MS_PER_GIB = 1_000;

/** How long joining a group may take: a runner that gives up in time says more. */
export const CONNECT_TIMEOUT_MS = JOIN_TIMEOUT_MS + 5_000;

/** How long the warm-up may take. */
export const WARMUP_TIMEOUT_MS = 180_000;

/** Longest silence of a runner that works alone: many times the longest step. */
export const STEP_TIMEOUT_MS = 60_000;

/** What a rank knows of its surroundings. */
interface RankOptions {
  readonly shard: Shard;
  /** In place of the usual limit on loading; 0 sets none. */
  readonly loadTimeoutMs?: number | undefined;
  /** Which ranks of the group have not come, in words. */
  readonly missing?: () => string;
  /** A clock that nobody sets. */
  readonly uptime: () => Millis;
}

/** One runner of this node with all that the worker knows of it. */
export class Rank implements LocalRunner {
  readonly instanceId: InstanceId;
  readonly modelId: ModelId;
  /** Its slice of the model. */
  readonly shard: Shard;
  readonly process: RunnerProcess;
  readonly dispatched = new Set<TaskId>();
  readonly cancelled = new Set<TaskId>();
  /** Tasks whose prompt another node reads: meanwhile the runner may sleep. */
  readonly awaited = new Set<TaskId>();
  /** Tasks of which this node has said by itself how they ended. */
  readonly #settled = new Set<TaskId>();
  stopping = false;
  /** The processes of the other ranks that it connects with. */
  peers: Incarnations = new Map();
  /** How its engine is doing, as it told last. */
  stats: EngineStats | undefined;
  readonly #instance: Instance;
  readonly #loadTimeoutMs: number | undefined;
  #sideChannel: SideChannel | undefined;
  #hasEnded = false;
  readonly #relays = new Map<TaskId, GenerationRelay>();
  /** Before its first report the runner counts as busy: it is not Idle yet. */
  #status: RunnerStatus = { type: "RunnerIdle" };
  #pending: TaskId | "start" | undefined = "start";
  #steps = NO_STEPS;
  #works = false;
  /** Nodes of its group that are out of reach, and since when. */
  #suspicion: { readonly since: Millis; readonly names: readonly string[] } | undefined;
  readonly #uptime: () => Millis;
  #ping: TaskId | undefined;
  readonly #missing: () => string;

  constructor(
    instance: Instance,
    process: RunnerProcess,
    { shard, loadTimeoutMs, missing = () => "", uptime }: RankOptions,
  ) {
    this.#uptime = uptime;
    this.shard = shard;
    this.#loadTimeoutMs = loadTimeoutMs;
    this.#missing = missing;
    this.instanceId = instance.instanceId;
    this.modelId = instance.shardAssignments.modelId;
    this.process = process;
    this.#instance = instance;
    this.watch();
  }

  get incarnation(): number {
    return this.process.incarnation;
  }

  /** More tokens than these its engine never has in a context. */
  get contextTokensMax(): number {
    const { contextLength } = this.shard.modelCard;
    return this.#instance.config?.contextTokens ?? (contextLength || Infinity);
  }

  get status(): RunnerStatus {
    return this.#status;
  }

  /** A lifecycle command is under way. */
  get busy(): boolean {
    return this.#pending !== undefined;
  }

  setStatus(status: RunnerStatus): void {
    this.#status = status;
    if (this.#pending === "start") this.#pending = undefined;
  }

  /** Sends a lifecycle command; the rank is busy until it is acknowledged. */
  command(command: RunnerCommand): void {
    this.#pending = command.taskId;
    this.process.send(command);
    this.#watchFromNow();
  }

  /** A command is being prepared: the rank is busy until it has been sent and acknowledged. */
  reserve(taskId: TaskId): void {
    this.#pending = taskId;
    this.#watchFromNow();
  }

  /** Ends it for something that is not its doing; until the process has gone nothing is planned. */
  refuse(reason: string): void {
    this.stopping = true;
    this.process.refuse(reason);
  }

  /** From now on it goes with the process; false when that has ended, or is told to. */
  takeSideChannel(channel: SideChannel): boolean {
    if (this.stopping || this.#hasEnded) return false;
    this.#sideChannel = channel;
    return true;
  }

  /** The process is gone: what was made for it goes, too. */
  async ended(): Promise<void> {
    this.#hasEnded = true;
    await this.#sideChannel?.close();
  }

  /** False where that shows only that it lives, and nothing of how its work goes on. */
  acknowledged(taskId: TaskId): boolean {
    if (this.#pending === taskId) this.#pending = undefined;
    return this.#ping !== taskId;
  }

  generate(command: RunnerCommand, relay: GenerationRelay): void {
    if (this.stopping) {
      return relay.fail({ code: "instance_removed", message: "The instance is stopping" });
    }
    this.#relays.set(command.taskId, relay);
    this.process.send(command);
    this.#watchFromNow();
  }

  cancel(cancelledTaskId: TaskId, taskId: TaskId): void {
    this.cancelled.add(cancelledTaskId);
    const { incarnation } = this;
    this.process.send({ type: "CancelTask", taskId, cancelledTaskId, incarnation });
  }

  /** Nobody reads the answer any more: the runner drops it. False when it has ended already. */
  abandon(taskId: TaskId, commandId: TaskId): boolean {
    if (!this.#relays.delete(taskId)) return false;
    if (!this.cancelled.has(taskId)) this.cancel(taskId, commandId);
    return true;
  }

  /** How the task ended is told already: what the runner makes of it is no news. */
  settle(taskId: TaskId): void {
    this.#settled.add(taskId);
  }

  /** Passes a chunk on; false when its reader is too slow. */
  chunk(taskId: TaskId, chunk: Chunk): boolean {
    this.#steps = chunkCame(this.#steps, chunk, this.#uptime());
    return this.#relays.get(taskId)?.push(chunk) ?? true;
  }

  /** Whether others take part in each of its steps. */
  get isOfGroup(): boolean {
    return runnersOf(this.#instance).length > 1;
  }

  /** Asks for a sign of life: a rank that waits for others gives none by itself. */
  ping(taskId: TaskId): void {
    if (!this.process.isAnswering) return;
    this.#ping = taskId;
    this.process.ping(taskId);
  }

  /** Takes the names of the group's nodes that are out of reach: less patience, and no more. */
  suspect(names: readonly string[]): void {
    const { since = this.#uptime(), names: before = [] } = this.#suspicion ?? {};
    if (names.join() === before.join()) return;
    this.#suspicion = names.length > 0 ? { since, names } : undefined;
    if (isServing(this.#status)) this.watch();
  }

  /** Takes its engine's stats. */
  note(stats: EngineStats): void {
    this.stats = stats;
    this.#steps = stepsCounted(this.#steps, stats.steps, this.#uptime());
  }

  /** Notes a task's status; false when nobody is to be told: of lifecycle commands, for one. */
  updateTask(taskId: TaskId, taskStatus: TaskStatus): boolean {
    if (!this.dispatched.has(taskId)) return false;
    if (taskStatus === "Pending" || taskStatus === "Running") return true;
    this.#relays.get(taskId)?.close();
    this.#relays.delete(taskId);
    return !this.#settled.has(taskId);
  }

  /** Ends every generation in progress with an error. */
  failAll(error: ErrorInfo): void {
    for (const relay of this.#relays.values()) relay.fail(error);
    this.#relays.clear();
  }

  /** Drops what is known of tasks that are over. */
  forget(isOver: (taskId: TaskId) => boolean): void {
    for (const taskId of this.dispatched) {
      if (!isOver(taskId) || this.#relays.has(taskId)) continue;
      this.dispatched.delete(taskId);
      this.cancelled.delete(taskId);
      this.#settled.delete(taskId);
    }
  }

  /** A command begins a wait, and never prolongs one: only a sign of life does. */
  #watchFromNow(): void {
    if (!this.process.isArmed) this.watch();
  }

  /** Sets the limit on the runner's next sign of life, after each sign. */
  watch(): void {
    if (this.stopping) return;
    const limit = this.#limit();
    // A rank of a group may sleep because it waits for another.
    const isAlone = !this.isOfGroup && this.#pending !== "start" && this.awaited.size === 0;
    if (limit) this.process.arm(limit, isAlone);
    else this.process.disarm();
  }

  #limit(): RunnerLimit | undefined {
    const { type } = this.#status;
    if (this.#pending === "start") return within(START_TIMEOUT_MS, () => "starting the runner");
    if (isServing(this.#status)) return this.#stepLimit();
    if (type === "RunnerConnecting") {
      return within(CONNECT_TIMEOUT_MS, () => `joining the group${this.#missing()}`);
    }
    const warming = type === "RunnerWarmingUp" || (type === "RunnerLoaded" && this.busy);
    if (warming) return within(WARMUP_TIMEOUT_MS, () => "the warm-up");
    if (type !== "RunnerLoading" && !this.busy) return undefined;
    const ms = this.#loadMs();
    return ms === 0 ? undefined : within(ms, () => "Model loading");
  }

  /** Alone, anything that it says shows that it goes on; a group must finish steps. */
  #stepLimit(): RunnerLimit | undefined {
    const hasWorked = this.#works;
    const tasks = [...this.#relays.keys()];
    this.#works = tasks.length > 0
      // Where others read all prompts there is nothing that it could do.
      ? tasks.some((taskId) => !this.awaited.has(taskId))
      : this.#status.type === "RunnerRunning";
    if (!this.#works) return undefined;
    if (!this.isOfGroup) return within(STEP_TIMEOUT_MS, () => "a step");
    const now = this.#uptime();
    if (!hasWorked) this.#steps = workBegan(this.#steps, now);
    const { at, patienceMs } = stepLimit(this.#steps, this.#suspicion?.since);
    const { names = [] } = this.#suspicion ?? {};
    const suspects = names.length > 0 ? `, and ${names.join(" and ")} cannot be reached` : "";
    const reason = () => `no step was finished within ${patienceMs / 1000} s${suspects}`;
    return { ms: Math.max(0, at - now), reason, code: "group_broken" };
  }

  #loadMs(): number {
    if (this.#loadTimeoutMs !== undefined) return this.#loadTimeoutMs;
    const bytes = shareOf(this.shard, this.shard.modelCard.storageSize.inBytes);
    return LOAD_TIMEOUT_MS + Math.ceil(bytes / GIB) * LOAD_TIMEOUT_MS_PER_GIB;
  }
}

function within(ms: number, what: () => string): RunnerLimit {
  return { ms, reason: () => `${what()} took longer than ${ms / 1000} s` };
}

import { getLogger } from "@logtape/logtape";
import type { EngineStats } from "../core/engine_stats.ts";
import type { RunnerCommand, RunnerReport } from "../core/frames.ts";
import { type ModelId, type NodeId, type RunnerId, TaskId } from "../core/ids.ts";
import type { Instance } from "../core/instance.ts";
import { withoutWhom } from "../core/group_work.ts";
import { isLoaded } from "../core/runner_status.ts";
import { type Action, type LocalView, nextPlanAt, plan } from "../core/plan.ts";
import type { Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import { endOfService, RESTARTS } from "./generation_errors.ts";
import { Generations } from "./generations.ts";
import { connectRank } from "./group_connect.ts";
import { GroupWatch } from "./group_watch.ts";
import type { ModelStore } from "./model_store.ts";
import { type PrefillDeps, Prefills } from "./prefills.ts";
import { processState } from "./process_state.ts";
import { Rank } from "./rank.ts";
import type { Replica } from "./replica.ts";
import type { Reporter } from "./reporter.ts";
import type { SideChannels } from "./side_channel.ts";
import { LADDER_DELETE, LADDER_NODE_STOP, RDMA_TERM_MS } from "./runner_limits.ts";
import { type RunnerFailure, type RunnerLaunch, RunnerProcess } from "./runner_process.ts";
import type { TraceStore } from "./trace_store.ts";

const log = getLogger(["exo", "worker"]);

/** Wait before planning goes on after an action that could not be started. */
const PLAN_RETRY_MS = 1_000;

/** Actions of one look at the plan: one that did not change what is planned would be the last. */
const ACTIONS_MAX = 1_000;

/** Longest sleep of a timer; longer waits look again in between. */
const TIMER_MS_MAX = 60_000;

/** What a worker works with. */
export interface WorkerDeps {
  readonly nodeId: NodeId;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly reporter: Reporter;
  readonly models: ModelStore;
  readonly clock: Clock;
  readonly launch: RunnerLaunch;
  readonly nextIncarnation: () => number;
  readonly traces: Pick<TraceStore, "save">;
  /** What prompts are shared with others by; absent: they are not. */
  readonly prefill?: Pick<PrefillDeps, "bulk" | "telemetry"> | undefined;
  /** Limit on the loading of a layer; absent: by the size of the model, 0: none. */
  readonly loadTimeoutMs?: number | undefined;
  /** Over which groups over RDMA find each other; absent: by their coordinator. */
  readonly sideChannels?: SideChannels | undefined;
}

/** Makes this node's runners what the state wants them to be: asks `plan`, performs, repeats. */
export class Worker {
  readonly #deps: WorkerDeps;
  readonly #ranks = new Map<RunnerId, Rank>();
  readonly #fetching = new Set<ModelId>();
  readonly #groups: GroupWatch;
  #scheduled = false;
  #stopped = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unsubscribe: () => void = () => {};

  readonly #prefills: Prefills | undefined;
  readonly #generations: Generations;

  constructor(deps: WorkerDeps) {
    this.#deps = deps;
    const { prefill, nodeId, replica, transport, clock } = deps;
    this.#groups = new GroupWatch(this.#ranks, {
      state: () => replica.state,
      isThere: (id) => id === nodeId || transport.peers().has(id),
      newId: () => this.#commandId(),
      pingsAll: processState(Deno.pid) === undefined,
    });
    this.#prefills = prefill && new Prefills(
      { ...prefill, nodeId, transport, state: () => replica.state, newId: () => clock.newId() },
      (instanceId) => [...this.#ranks.values()].find((rank) => rank.instanceId === instanceId),
    );
    const newId = () => this.#commandId();
    this.#generations = new Generations({ ...deps, newId, asker: this.#prefills?.asker });
  }

  start(): void {
    const { replica, transport } = this.#deps;
    const stops = [
      replica.onChange(() => this.#changed()),
      transport.onPeer(() => this.#changed()),
    ];
    this.#unsubscribe = () => stops.forEach((stop) => stop());
    this.#changed();
  }

  /** Ends every runner: SIGTERM, then SIGKILL. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe();
    this.#groups.stop();
    clearTimeout(this.#timer);
    const gone = { code: "instance_removed" as const, message: "The node is stopping" };
    for (const rank of this.#ranks.values()) rank.failAll(gone);
    this.#prefills?.close();
    await Promise.all(
      [...this.#ranks.values()].map(async (rank) => {
        await rank.process.stop(LADDER_NODE_STOP);
        await rank.ended();
      }),
    );
  }

  /** Process ids of the runners, for diagnostics. */
  runnerPids(): ReadonlyMap<RunnerId, number> {
    return new Map(
      [...this.#ranks].flatMap(([id, { process: { pid } }]) =>
        pid === undefined ? [] : [[id, pid] as const]
      ),
    );
  }

  /** The runners whose weights are in memory. */
  loadedRunners(): RunnerId[] {
    return [...this.#ranks].flatMap(([id, { status }]) => (isLoaded(status) ? [id] : []));
  }

  /** How the engines of this node's runners are doing; gone with their processes. */
  engineStats(): ReadonlyMap<RunnerId, EngineStats> {
    return new Map(
      [...this.#ranks].flatMap(([id, { stats }]) => stats === undefined ? [] : [[id, stats]]),
    );
  }

  /** Something changed: plan again, once, after the present event has been dealt with. */
  #changed(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (!this.#stopped) this.#planOrRetry();
    });
  }

  /** An action that cannot be started, as on a full disk, must not take the node along. */
  #planOrRetry(): void {
    try {
      this.#planAll();
    } catch (cause) {
      log.error("cannot carry out the plan: {reason}", { reason: String(cause) });
      this.#wake(PLAN_RETRY_MS);
    }
  }

  #wake(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#changed(), Math.min(Math.max(delayMs, 1), TIMER_MS_MAX));
  }

  #planAll(): void {
    const { replica, clock } = this.#deps;
    const { tasks } = replica.state;
    for (const rank of this.#ranks.values()) rank.forget((taskId) => !tasks.has(taskId));
    const view = this.#view();
    let left = ACTIONS_MAX;
    // Each action changes the view, so that the next plan does not repeat it.
    for (let action = plan(replica.state, view, clock.now()); action;) {
      if (left-- === 0) throw new Error(`it does not come to rest: ${action.type} again and again`);
      this.#perform(action);
      action = plan(replica.state, view, clock.now());
    }
    this.#groups.look();
    clearTimeout(this.#timer);
    const at = nextPlanAt(replica.state, view, clock.now());
    if (at !== undefined) this.#wake(at - clock.now());
  }

  #view(): LocalView {
    const { nodeId, replica } = this.#deps;
    const { branch } = replica;
    return { nodeId, runners: this.#ranks, fetching: this.#fetching, branch };
  }

  /** Starts an action; never waits for it. */
  #perform(action: Action): void {
    log.debug("plan: {type}", { type: action.type });
    if (action.type === "CreateRunner") return this.#createRunner(action);
    if (action.type === "DownloadModel") return this.#inBackground(this.#findModel(action.modelId));
    const rank = this.#ranks.get(action.runnerId);
    if (!rank) return;
    switch (action.type) {
      case "CancelTask":
        return rank.cancel(action.taskId, this.#commandId());
      case "Shutdown":
        return this.#inBackground(this.#shutdown(action.runnerId, rank));
      case "ConnectToGroup":
        return this.#inBackground(connectRank(action, rank, {
          nodeId: this.#deps.nodeId,
          state: this.#deps.replica.state,
          taskId: this.#commandId(),
          sideChannels: this.#deps.sideChannels,
        }));
      case "StartWarmup":
        return rank.command({ type: action.type, ...this.#stamp(rank) });
      case "LoadModel":
        return this.#loadModel(action.instance, rank);
      case "TextGeneration":
        return this.#inBackground(this.#generations.begin(action.taskId, rank));
      default:
        return action satisfies never;
    }
  }

  /** Goes on by itself; a defect in it is logged and takes nothing along. */
  #inBackground(work: Promise<void>): void {
    work.catch((cause) => log.error("an action broke off: {reason}", { reason: String(cause) }));
  }

  #commandId(): TaskId {
    return TaskId.parse(this.#deps.clock.newId());
  }

  #stamp(rank: Rank): { taskId: TaskId; incarnation: number } {
    return { taskId: this.#commandId(), incarnation: rank.incarnation };
  }

  #createRunner({ runnerId, instance, shard }: Extract<Action, { type: "CreateRunner" }>): void {
    const incarnation = this.#deps.nextIncarnation();
    const process = new RunnerProcess(this.#deps.launch, incarnation, {
      report: (report) => this.#runnerReport(runnerId, rank, report),
      ending: (failure) => this.#runnerEnding(runnerId, rank, failure),
      failed: (failure) => this.#inBackground(this.#runnerFailed(runnerId, rank, failure)),
      stopped: () => this.#inBackground(this.#runnerStopped(runnerId, rank)),
    }, instance.type === "MlxJacclInstance" ? { rdmaTermMs: RDMA_TERM_MS } : {});
    const rank = new Rank(instance, process, {
      shard,
      loadTimeoutMs: this.#deps.loadTimeoutMs,
      missing: () => withoutWhom(this.#deps.replica.state, instance),
      uptime: () => this.#deps.clock.uptime(),
    });
    this.#ranks.set(runnerId, rank);
    log.info("runner {runnerId} started: incarnation {incarnation}, pid {pid}", {
      runnerId,
      incarnation,
      pid: process.pid,
    });
  }

  #loadModel(instance: Instance, rank: Rank): void {
    const { modelId } = instance.shardAssignments;
    const modelPath = this.#deps.models.path(modelId);
    const { shard } = rank;
    if (modelPath === undefined) {
      // The state says that the files are here and they are not: let the group fail and say so.
      return rank.refuse(`the files of ${modelId} are not on this node`);
    }
    const config = instance.config ?? {};
    rank.command({ type: "LoadModel", ...this.#stamp(rank), modelPath, shard, config });
  }

  async #findModel(modelId: ModelId): Promise<void> {
    const { nodeId, models, reporter } = this.#deps;
    this.#fetching.add(modelId);
    const status = await models.status(modelId);
    await reporter.report({ type: "NodeDownloadProgress", nodeId, modelId, status });
    // After the report: until it is in the state, the plan would ask for the same again.
    this.#fetching.delete(modelId);
    if (status.type === "DownloadFailed") this.#failWaiting(modelId, status.errorMessage);
    this.#changed();
  }

  /** Without its files a runner fails, so that the instance is retried and says why. */
  #failWaiting(modelId: ModelId, reason: string): void {
    for (const rank of this.#ranks.values()) {
      if (rank.modelId !== modelId || rank.status.type !== "RunnerIdle") continue;
      rank.refuse(reason);
    }
  }

  #askForPrefill(rank: Rank, wanted: Extract<RunnerReport, { type: "PrefillWanted" }>): void {
    const source = this.#deps.replica.state.tasks.get(wanted.taskId)?.prefill;
    const asked = this.#prefills?.asker.ask(rank, wanted, source);
    if (asked) this.#inBackground(asked);
  }

  #prefillFlow({ taskId, bytes, end }: Extract<RunnerReport, { type: "PrefillFlow" }>): void {
    this.#prefills?.asker.flow(taskId, bytes, end);
    this.#prefills?.server.flow(taskId, bytes, end);
  }

  async #shutdown(runnerId: RunnerId, rank: Rank): Promise<void> {
    rank.stopping = true;
    rank.failAll(endOfService(this.#deps.replica.state, rank.instanceId));
    this.#prefills?.drop(rank);
    log.info("stopping runner {runnerId}", { runnerId });
    const shutdown: RunnerCommand = { type: "Shutdown", ...this.#stamp(rank) };
    await rank.process.stop(LADDER_DELETE, shutdown);
  }

  #runnerReport(runnerId: RunnerId, rank: Rank, report: RunnerReport): void {
    const { reporter, clock } = this.#deps;
    let isProgress = true;
    switch (report.type) {
      case "StatusUpdated": {
        // The end of the process says it better, and comes for certain.
        if (report.status.type === "RunnerShutdown") break;
        rank.setStatus(report.status);
        const { status, incarnation } = report;
        const at = clock.now();
        void reporter.report({ type: "RunnerStatusUpdated", runnerId, status, incarnation, at });
        break;
      }
      case "Ack":
        isProgress = rank.acknowledged(report.taskId);
        break;
      case "TaskUpdated":
        if (!rank.updateTask(report.taskId, report.taskStatus)) break;
        void reporter.report({
          type: "TaskStatusUpdated",
          taskId: report.taskId,
          taskStatus: report.taskStatus,
        });
        break;
      case "ChunkGenerated":
        if (!rank.chunk(report.taskId, report.chunk)) {
          rank.cancel(report.taskId, this.#commandId());
        }
        break;
      case "StatsUpdated":
        rank.note(report.stats);
        break;
      case "TaskTraced":
        this.#deps.traces.save(report.taskId, report.spans);
        break;
      case "PrefillWanted":
        this.#askForPrefill(rank, report);
        break;
      case "PrefillFlow":
        this.#prefillFlow(report);
        break;
      case "RunnerError":
        break;
      default:
        report satisfies never;
    }
    if (isProgress) rank.watch();
    this.#changed();
  }

  /** Until it is gone nobody is to wait for it: it has no more to say, and takes no tasks. */
  #runnerEnding(
    runnerId: RunnerId,
    rank: Rank,
    { reason }: Pick<RunnerFailure, "reason">,
  ): void {
    log.warn("runner {runnerId} is being ended: {reason}", { runnerId, reason });
    rank.stopping = true;
    this.#prefills?.drop(rank);
    rank.failAll({
      code: "group_broken",
      message: `A rank had to be ended: ${reason}`,
      hint: RESTARTS,
    });
    void this.#deps.reporter.report({
      type: "RunnerStatusUpdated",
      runnerId,
      status: { type: "RunnerShuttingDown" },
      incarnation: rank.incarnation,
      at: this.#deps.clock.now(),
    });
    this.#changed();
  }

  async #runnerFailed(
    runnerId: RunnerId,
    rank: Rank,
    { reason, diagnostics, code }: RunnerFailure,
  ): Promise<void> {
    log.warn("runner {runnerId} failed: {reason}", { runnerId, reason });
    rank.stopping = true;
    this.#inBackground(rank.ended());
    this.#prefills?.drop(rank);
    rank.failAll({
      code: code === "group_broken" ? code : "runner_failed",
      message: `Runner shutdown before completing command: ${reason}`,
      hint: RESTARTS,
    });
    await this.#deps.reporter.report({
      type: "RunnerStatusUpdated",
      runnerId,
      status: { type: "RunnerFailed", reason, diagnostics: [...diagnostics] },
      incarnation: rank.incarnation,
      at: this.#deps.clock.now(),
    });
    // Only now: until the failure is in the state, a missing runner would be made anew at once.
    this.#ranks.delete(runnerId);
    this.#changed();
  }

  async #runnerStopped(runnerId: RunnerId, rank: Rank): Promise<void> {
    this.#inBackground(rank.ended());
    this.#prefills?.drop(rank);
    await this.#deps.reporter.report({
      type: "RunnerStatusUpdated",
      runnerId,
      status: { type: "RunnerShutdown" },
      incarnation: rank.incarnation,
      at: this.#deps.clock.now(),
    });
    this.#ranks.delete(runnerId);
    this.#changed();
  }
}

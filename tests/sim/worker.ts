import type { Event } from "../../core/events.ts";
import type { ModelId, NodeId, RunnerId, TaskId } from "../../core/ids.ts";
import { type Action, type LocalView, nextPlanAt, plan } from "../../core/plan.ts";
import { isLoaded } from "../../core/runner_status.ts";
import type { State } from "../../core/state.ts";
import { isInFlight, type TaskStatus } from "../../core/task.ts";
import { type RunnerListener, type RunnerWorld, SimRunner } from "./runners.ts";

/** Actions that one look may take: more would mean that the plan never comes to rest. */
const ACTIONS_MAX = 1_000;

/** What a worker sees of its node. */
export interface WorkerHost {
  readonly nodeId: NodeId;
  readonly machine: number;
  readonly state: State;
  /** A state that gave way to it, until it is merged. */
  readonly branch: State | undefined;
  /** The date, as the node takes it to be. */
  readonly date: number;
  readonly world: RunnerWorld;
  nextIncarnation(): number;
  /** Facts have changed. */
  tell(): void;
  /** Fetches a prompt: the number of tokens that it wants, or undefined when nobody knows it. */
  openPrompt(taskId: TaskId, apiNodeId: NodeId, then: (tokens?: number) => void): void;
  /** A token of a generation goes to its API node. */
  token(runner: SimRunner, taskId: TaskId, isLast: boolean): void;
  downloadFails(modelId: ModelId): boolean;
  /** Does something while the process lives. */
  later(delayMs: number, action: () => void): void;
}

/** What `node/worker.ts` does around the plan, with simulated processes. */
export class SimWorker implements RunnerListener {
  readonly ranks = new Map<RunnerId, SimRunner>();
  /** Reports about runners, downloads and tasks, by subject. */
  readonly reports = new Map<string, Event>();
  readonly #fetching = new Set<ModelId>();
  #isPlanned = false;
  #wakeAt = Infinity;

  constructor(readonly host: WorkerHost) {}

  /** Something changed: plans again, once, after what is being done now. */
  changed(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    this.host.later(0, () => {
      this.#isPlanned = false;
      this.#plan();
    });
  }

  /** The node's process is gone, and its children with it. */
  kill(): void {
    for (const rank of this.ranks.values()) rank.kill();
  }

  /** The runners whose weights are in memory. */
  get loadedRunners(): RunnerId[] {
    return [...this.ranks].flatMap(([id, { isAlive, status }]) =>
      isAlive && isLoaded(status) ? [id] : []
    );
  }

  /** Bytes of weights in memory. */
  get loadedBytes(): number {
    return [...this.ranks.values()].reduce((sum, { loadedBytes }) => sum + loadedBytes, 0);
  }

  statusChanged(runner: SimRunner): void {
    const { runnerId, incarnation } = runner.place;
    const { status } = runner;
    const at = Math.max(0, this.host.date);
    this.reports.set(`runner:${runnerId}`, {
      type: "RunnerStatusUpdated",
      runnerId,
      status,
      incarnation,
      at,
    });
    this.host.tell();
    this.changed();
  }

  taskChanged(_: SimRunner, taskId: TaskId, taskStatus: TaskStatus): void {
    this.reports.set(`task:${taskId}`, { type: "TaskStatusUpdated", taskId, taskStatus });
    this.host.tell();
    this.changed();
  }

  token(runner: SimRunner, taskId: TaskId, isLast: boolean): void {
    this.host.token(runner, taskId, isLast);
  }

  ended(runner: SimRunner): void {
    const { runnerId } = runner.place;
    if (this.ranks.get(runnerId) === runner) this.#forget(runnerId);
    this.changed();
  }

  #forget(runnerId: RunnerId): void {
    this.ranks.delete(runnerId);
    this.reports.delete(`runner:${runnerId}`);
    this.host.tell();
  }

  #plan(): void {
    const { state } = this.host;
    this.#tidy(state);
    let left = ACTIONS_MAX;
    for (let next = this.#next(); next; next = this.#next()) {
      if (left-- === 0) throw new Error(`the plan does not come to rest: ${next.type}`);
      this.#perform(next);
    }
    const { date } = this.host;
    const at = nextPlanAt(state, this.#view(), date);
    if (at === undefined) return;
    const due = this.host.world.schedule.now + Math.max(1, at - date);
    if (due >= this.#wakeAt && this.#wakeAt > this.host.world.schedule.now) return;
    this.#wakeAt = due;
    this.host.later(Math.max(1, at - date), () => this.changed());
  }

  #next(): Action | undefined {
    return plan(this.host.state, this.#view(), this.host.date);
  }

  /** Drops what the state has taken in, or has no more use for. */
  #tidy(state: State): void {
    for (const rank of this.ranks.values()) rank.forget((taskId) => !state.tasks.has(taskId));
    for (const [runnerId, rank] of this.ranks) {
      const { instanceId, incarnation, status } = rank;
      if (status.type !== "RunnerFailed") continue;
      const known = state.runners.get(runnerId);
      const past = state.instanceRetries.get(instanceId)?.incarnations[runnerId] ?? -1;
      const isKnown = known?.status.type === "RunnerFailed" && known.incarnation >= incarnation;
      // Until the failure is in the state, a missing runner would be made anew at once.
      if (!state.instances.has(instanceId)) this.#forget(runnerId);
      else if (isKnown || past >= incarnation) this.ranks.delete(runnerId);
    }
    for (const [subject, event] of this.reports) {
      const isOver = event.type === "TaskStatusUpdated"
        ? !state.tasks.has(event.taskId)
        : event.type === "RunnerStatusUpdated" && !this.ranks.has(event.runnerId) &&
          !isAssigned(state, this.host.nodeId, event.runnerId);
      if (isOver) this.reports.delete(subject);
    }
    this.host.tell();
  }

  #view(): LocalView {
    const { nodeId, branch } = this.host;
    return { nodeId, runners: this.ranks, fetching: this.#fetching, branch };
  }

  #perform(action: Action): void {
    if (action.type === "CreateRunner") return this.#create(action);
    if (action.type === "DownloadModel") return this.#fetch(action.modelId);
    const rank = this.ranks.get(action.runnerId);
    if (!rank) return;
    switch (action.type) {
      case "CancelTask":
        return rank.cancel(action.taskId);
      case "Shutdown":
        return rank.stop();
      case "ConnectToGroup":
        return rank.connect(action.peers, action.instance);
      case "StartWarmup":
        return rank.warmUp();
      case "LoadModel":
        return rank.load();
      case "TextGeneration":
        return this.#generate(action.taskId, rank);
      default:
        return action satisfies never;
    }
  }

  #create({ runnerId, instance, shard }: Extract<Action, { type: "CreateRunner" }>): void {
    const { machine, world } = this.host;
    const incarnation = this.host.nextIncarnation();
    const place = { runnerId, instance, shard, machine, incarnation };
    this.ranks.set(runnerId, new SimRunner(place, world, this));
  }

  #fetch(modelId: ModelId): void {
    this.#fetching.add(modelId);
    const { nodeId, world: { random, marks } } = this.host;
    this.host.later(20 + random.below(2_000), () => {
      const failed = this.host.downloadFails(modelId);
      const status = failed
        ? { type: "DownloadFailed" as const, errorMessage: "the hub is away" }
        : { type: "DownloadCompleted" as const, totalBytes: 1, readOnly: false };
      const report: Event = { type: "NodeDownloadProgress", nodeId, modelId, status };
      this.reports.set(`download:${modelId}`, report);
      // What is here is not looked for again; what failed is, by the next runner.
      if (failed) {
        marks.hit("fault: download failed");
        this.#fetching.delete(modelId);
        for (const rank of this.ranks.values()) {
          const isWaiting = rank.status.type === "RunnerIdle" && !rank.stopping;
          const wanted = rank.place.shard.modelCard.modelId;
          if (isWaiting && wanted === modelId) rank.fail("the hub is away");
        }
      }
      this.host.tell();
      this.changed();
    });
  }

  #generate(taskId: TaskId, rank: SimRunner): void {
    const task = this.host.state.tasks.get(taskId);
    if (!task) return;
    rank.dispatched.add(taskId);
    this.host.openPrompt(taskId, task.apiNodeId, (tokens) => {
      const wanted = this.host.state.tasks.get(taskId);
      if (!rank.isAlive || rank.stopping || !wanted || !isInFlight(wanted)) return;
      if (tokens === undefined) return this.taskChanged(rank, taskId, "Failed");
      rank.generate(taskId, tokens);
    });
  }
}

function isAssigned(state: State, nodeId: NodeId, runnerId: RunnerId): boolean {
  return [...state.instances.values()]
    .some(({ shardAssignments }) => shardAssignments.nodeToRunner[nodeId] === runnerId);
}

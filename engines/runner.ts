import { statsAtRest } from "../core/engine_stats.ts";
import { AppError, toAppError } from "../core/errors.ts";
import type { RunnerCommand, RunnerReport } from "../core/frames.ts";
import type { TaskId } from "../core/ids.ts";
import { isServing, type RunnerStatus } from "../core/runner_status.ts";
import type { TaskStatus } from "../core/task.ts";
import type { CommandOf, CommandQueue } from "./command_queue.ts";
import type { Builder, Engine, EngineResponse } from "./engine.ts";
import { StatsPace } from "./stats_pace.ts";

/** A report before it is stamped with the incarnation. */
type Unstamped = RunnerReport extends infer R ? R extends RunnerReport ? Omit<R, "incarnation">
  : never
  : never;

/** What a runner works with. */
export interface RunnerOptions {
  readonly incarnation: number;
  readonly builder: Builder;
  readonly commands: CommandQueue;
  readonly emit: (report: RunnerReport) => void;
  /** Lets the pipes move between two steps. */
  readonly breathe: () => Promise<void>;
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
}

/** Least time between two reports of how far loading is: each becomes an event of the cluster. */
const PROGRESS_MS = 100;

/**
 * Time for commands between two steps, after which no other is begun: so many as come at once are
 * taken up in a few steps, and those that are served hardly wait for them.
 */
const COMMANDS_MS = 20;

/**
 * Drives an engine by the commands of its node and reports all that happens, in a fixed order:
 * task Running before the change of status, that before the Ack, Complete before the next status.
 */
export class Runner {
  readonly #options: RunnerOptions;
  #status: RunnerStatus = { type: "RunnerIdle" };
  #engine: Engine | undefined;
  readonly #active = new Set<TaskId>();
  /** Tasks whose last chunk was an error. */
  readonly #failed = new Set<TaskId>();
  readonly #statsPace = new StatsPace();
  #isListening = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /**
   * Runs until told to shut down, or until the node is gone.
   * @throws what ends the process: an error of loading, of the device or of the group.
   */
  async run(): Promise<void> {
    const { commands, breathe } = this.#options;
    this.#setStatus({ type: "RunnerIdle" });
    try {
      while (true) {
        if (!this.#engine?.hasWork()) {
          this.#listen();
          await commands.arrival();
        }
        const end = await this.#obeyWaiting();
        if (end === "closed") return;
        if (end) return this.#shutdown(end);
        this.#step();
        await breathe();
      }
    } finally {
      this.#engine?.close();
      this.#options.builder.close();
    }
  }

  /**
   * Has the other ranks of the group end a wait for commands. One wait for them at a time: what is
   * not over yet goes on, so that nothing piles up however often commands come first.
   */
  #listen(): void {
    const arrival = this.#isListening ? undefined : this.#engine?.arrival?.();
    if (!arrival) return;
    this.#isListening = true;
    // What broke it is thrown by the step that follows.
    void arrival.catch(() => {}).then(() => {
      this.#isListening = false;
      this.#options.commands.nudge();
    });
  }

  /** Gives memory back that the system is short of; to be called now and then, between two steps. */
  relieve(): void {
    this.#engine?.relieve();
  }

  /** What ends something first, then the others until their time is used; what ends the runner. */
  async #obeyWaiting(): Promise<CommandOf<"Shutdown"> | "closed" | undefined> {
    const { commands, now } = this.#options;
    // Before there is a request, the order is that of the node.
    while (isServing(this.#status)) {
      const ending = commands.takeEnding();
      if (ending === undefined) break;
      if (ending.type === "Shutdown") return ending;
      this.#cancel(ending);
    }
    const until = commands.size > 1 ? now() + COMMANDS_MS : 0;
    do {
      const command = commands.poll();
      if (command === undefined || command === "closed" || command.type === "Shutdown") {
        return command;
      }
      await this.#obey(command);
    } while (commands.size > 0 && now() < until);
    return undefined;
  }

  async #obey(command: Exclude<RunnerCommand, { type: "Shutdown" }>): Promise<void> {
    switch (command.type) {
      case "ConnectToGroup":
        return await this.#connect(command);
      case "LoadModel":
        return await this.#load(command);
      case "StartWarmup":
        return this.#warmUp(command);
      case "TextGeneration":
        return this.#generate(command);
      case "CancelTask":
        return this.#cancel(command);
      case "Ping":
        return this.#ack(command);
      case "Prefill":
        return this.#prefill(command);
      case "PrefillFlow":
        this.#ack(command);
        return this.#engine?.prefills?.flow(command.transferId, command);
      default:
        return command satisfies never;
    }
  }

  async #connect(command: CommandOf<"ConnectToGroup">): Promise<void> {
    if (this.#status.type !== "RunnerIdle") return this.#refuse(command);
    this.#task(command.taskId, "Running");
    this.#setStatus({ type: "RunnerConnecting", groupId: command.group.groupId });
    this.#ack(command);
    const { builder, commands } = this.#options;
    const joined = builder.connect(command.group);
    // Whoever is told to end does not wait for others; `close` ends what goes on here.
    joined.catch(() => {});
    await Promise.race([joined, commands.ending]);
    if (commands.isEnding) return;
    this.#task(command.taskId, "Complete");
    this.#setStatus({ type: "RunnerConnected" });
  }

  async #load(command: CommandOf<"LoadModel">): Promise<void> {
    const { type } = this.#status;
    if (type !== "RunnerIdle" && type !== "RunnerConnected") return this.#refuse(command);
    const { shard, modelPath, config, taskId } = command;
    const totalLayers = shard.endLayer - shard.startLayer;
    this.#task(taskId, "Running");
    this.#setStatus({ type: "RunnerLoading", layersLoaded: 0, totalLayers });
    this.#ack(command);
    const { builder, breathe, now } = this.#options;
    let toldAt = now();
    for (const progress of builder.load({ shard, modelPath, config })) {
      if (progress.layersLoaded === totalLayers || now() - toldAt >= PROGRESS_MS) {
        this.#setStatus({ type: "RunnerLoading", ...progress });
        toldAt = now();
      }
      await breathe();
      // The instance may be deleted meanwhile; the queue then holds the Shutdown.
      if (this.#options.commands.isEnding) return;
    }
    this.#engine = builder.build();
    this.#task(taskId, "Complete");
    this.#setStatus({ type: "RunnerLoaded" });
  }

  #warmUp(command: CommandOf<"StartWarmup">): void {
    if (this.#status.type !== "RunnerLoaded") return this.#refuse(command);
    this.#task(command.taskId, "Running");
    this.#setStatus({ type: "RunnerWarmingUp" });
    this.#ack(command);
    this.#engine?.warmup();
    this.#task(command.taskId, "Complete");
    this.#ready();
  }

  #generate(command: CommandOf<"TextGeneration">): void {
    const { taskId, payload, prefill } = command;
    if (!isServing(this.#status) || !this.#engine) return this.#refuse(command);
    if (this.#active.has(taskId)) return this.#ack(command);
    try {
      const { promptTokens } = this.#engine.submit({ taskId, payload, prefill });
      this.#active.add(taskId);
      this.#task(taskId, "Running");
      if (this.#status.type !== "RunnerRunning") this.#setStatus({ type: "RunnerRunning" });
      this.#ack(command);
      this.#chunk(taskId, { type: "Accepted", promptTokens });
    } catch (cause) {
      this.#ack(command);
      this.#chunk(taskId, { type: "Error", error: toAppError(cause).toInfo() });
      this.#task(taskId, "Failed");
    }
  }

  /** A prompt of another instance; whoever asked hears of its end by the flow of its bytes. */
  #prefill(command: CommandOf<"Prefill">): void {
    const { taskId, request, ring } = command;
    const service = isServing(this.#status) ? this.#engine?.prefills : undefined;
    this.#ack(command);
    try {
      if (!service) throw cannotPrefill(this.#status);
      service.serve({ taskId, request, ring });
    } catch (cause) {
      const error = toAppError(cause).toInfo();
      return this.#emit({ type: "PrefillFlow", taskId, bytes: 0, end: { error } });
    }
    this.#active.add(taskId);
    if (this.#status.type !== "RunnerRunning") this.#setStatus({ type: "RunnerRunning" });
  }

  /** Also of a task that still waits to be submitted: it is never begun. */
  #cancel(command: CommandOf<"CancelTask">): void {
    const { cancelledTaskId } = command;
    const submits = this.#options.commands.takeSubmits(cancelledTaskId);
    for (const submit of submits) this.#ack(submit);
    this.#ack(command);
    if (this.#active.has(cancelledTaskId)) this.#engine?.cancel(cancelledTaskId);
    else if (submits.length > 0) this.#task(cancelledTaskId, "Cancelled");
  }

  #shutdown(command: CommandOf<"Shutdown">): void {
    this.#task(command.taskId, "Running");
    this.#setStatus({ type: "RunnerShuttingDown" });
    this.#ack(command);
    this.#engine?.close();
    this.#engine = undefined;
    this.#task(command.taskId, "Complete");
    this.#setStatus({ type: "RunnerShutdown" });
  }

  #step(): void {
    if (!this.#engine?.hasWork()) return;
    const stats = this.#statsPace.atWork(this.#engine, this.#options.now());
    if (stats) this.#emit({ type: "StatsUpdated", stats });
    for (const [taskId, response] of this.#engine.step()) this.#respond(taskId, response);
    const idle = this.#active.size === 0 && this.#status.type === "RunnerRunning";
    if (idle) this.#ready();
  }

  /** There is nothing to do: what the engine counted by then is told first. */
  #ready(): void {
    this.#statsPace.rest();
    const counters = this.#engine?.stats();
    if (counters) this.#emit({ type: "StatsUpdated", stats: statsAtRest(counters) });
    const { tokensPerSecond } = this.#engine?.prefills ?? {};
    const pace = tokensPerSecond && Number(tokensPerSecond.toPrecision(2));
    this.#setStatus({ type: "RunnerReady", ...(pace ? { prefillTokensPerSecond: pace } : {}) });
  }

  #respond(taskId: TaskId, response: EngineResponse): void {
    if (response.type === "chunk") {
      if (response.chunk.type === "Error") this.#failed.add(taskId);
      return this.#chunk(taskId, response.chunk);
    }
    if (response.type === "traced") {
      return this.#emit({ type: "TaskTraced", taskId, spans: [...response.spans] });
    }
    if (response.type === "prefillWanted") {
      return this.#emit({ type: "PrefillWanted", taskId, request: response.request });
    }
    if (response.type === "prefillFlow") {
      const { bytes, end } = response;
      return this.#emit({ type: "PrefillFlow", taskId, bytes, ...(end ? { end } : {}) });
    }
    this.#active.delete(taskId);
    const failed = this.#failed.delete(taskId);
    if (response.type === "cancelled") return this.#task(taskId, "Cancelled");
    this.#task(taskId, failed ? "Failed" : "Complete");
  }

  /** A command that is illegal in this status is answered, not died of. */
  #refuse(command: RunnerCommand): void {
    const message = `Cannot do ${command.type} while the runner is ${this.#status.type}`;
    this.#ack(command);
    if (command.type === "TextGeneration") {
      const error = new AppError("not_ready", message, {
        hint: "exo instance list shows when it is ready; ask again then",
      });
      this.#chunk(command.taskId, { type: "Error", error: error.toInfo() });
    }
    this.#task(command.taskId, "Failed");
  }

  #setStatus(status: RunnerStatus): void {
    this.#status = status;
    this.#emit({ type: "StatusUpdated", status });
  }

  #task(taskId: TaskId, taskStatus: TaskStatus): void {
    this.#emit({ type: "TaskUpdated", taskId, taskStatus });
  }

  #ack({ taskId }: RunnerCommand): void {
    this.#emit({ type: "Ack", taskId });
  }

  #chunk(taskId: TaskId, chunk: Extract<RunnerReport, { type: "ChunkGenerated" }>["chunk"]): void {
    this.#emit({ type: "ChunkGenerated", taskId, chunk });
  }

  #emit(report: Unstamped): void {
    this.#options.emit({ ...report, incarnation: this.#options.incarnation });
  }
}

function cannotPrefill({ type }: RunnerStatus): AppError {
  const found = isServing({ type } as RunnerStatus)
    ? "its engine keeps keys and values that cannot travel"
    : `it is ${type}, a runner that serves needed`;
  return new AppError("not_ready", `Cannot prefill for another instance: ${found}`, {
    hint: "exo instance list shows which are ready",
  });
}

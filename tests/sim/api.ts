import type { Command, CommandReply } from "../../core/commands.ts";
import { CommandId, type InstanceId, type NodeId, type TaskId, taskIdOf } from "../../core/ids.ts";
import type { ModelId } from "../../core/ids.ts";
import type { State } from "../../core/state.ts";
import type { SimRunner } from "./runners.ts";

/** How long the runner may take to begin (design, streamed answers). */
const ACCEPT_TIMEOUT_MS = 10_000;

/** How long a worker's own last word may take before a general one is given in its place. */
const LAST_WORD_MS = 1_000;

/** How a generation ended for its client. */
export type Answer = "complete" | "error" | "refused" | "gone";

/** A generation of a client of this node. */
export interface Generation {
  readonly commandId: CommandId;
  readonly taskId: TaskId;
  readonly tokens: number;
  instanceId?: InstanceId;
  received: number;
  isLastWordDue: boolean;
  answer?: Answer;
}

/** What the API of a node sees of its node. */
export interface ApiHost {
  readonly nodeId: NodeId;
  readonly state: State;
  newId(): string;
  submit(command: Command, then: (reply: CommandReply) => void): void;
  /** Facts have changed. */
  tell(): void;
  later(delayMs: number, action: () => void): void;
  /** A client has been answered. */
  answered(generation: Generation): void;
}

/** What `node/gateway.ts` does for generations. */
export class SimApi {
  readonly pending = new Map<TaskId, Generation>();

  constructor(readonly host: ApiHost) {}

  /** The tasks whose clients are still here. */
  get followedTasks(): ReadonlySet<TaskId> {
    return new Set(this.pending.keys());
  }

  generate(modelId: ModelId, tokens: number): Generation {
    const { host } = this;
    const commandId = CommandId.parse(host.newId());
    const taskId = taskIdOf(commandId);
    const generation: Generation = {
      commandId,
      taskId,
      tokens,
      received: 0,
      isLastWordDue: false,
    };
    this.pending.set(taskId, generation);
    host.tell();
    const { nodeId: apiNodeId } = host;
    host.submit({ type: "TextGeneration", commandId, modelId, apiNodeId }, (reply) => {
      if (generation.answer) return;
      if (reply.type === "CommandRejected") return this.#end(generation, "refused");
      if (reply.instanceId) generation.instanceId = reply.instanceId;
      this.stateChanged();
      host.later(ACCEPT_TIMEOUT_MS, () => {
        if (generation.received === 0) this.#end(generation, "error");
      });
    });
    return generation;
  }

  /** The client goes away. */
  leave(generation: Generation): void {
    this.#end(generation, "gone");
  }

  /** A token has come by the stream from rank 0. */
  token(_: SimRunner, taskId: TaskId, isLast: boolean): void {
    const generation = this.pending.get(taskId);
    if (!generation || generation.answer) return;
    generation.received++;
    if (isLast) this.#end(generation, "complete");
  }

  /** The stream of a generation has broken: the task's own status may say more in a moment. */
  broken(taskId: TaskId): void {
    const generation = this.pending.get(taskId);
    if (!generation || generation.isLastWordDue) return;
    generation.isLastWordDue = true;
    this.host.later(LAST_WORD_MS, () => this.#end(generation, "error"));
  }

  /** A generation whose task ended without a last word gets one here, so that no client hangs. */
  stateChanged(): void {
    const { tasks } = this.host.state;
    for (const [taskId, generation] of this.pending) {
      if (generation.instanceId === undefined || generation.isLastWordDue) continue;
      const status = tasks.get(taskId)?.taskStatus;
      if (status === "Pending" || status === "Running" || status === "Complete") continue;
      generation.isLastWordDue = true;
      this.host.later(LAST_WORD_MS, () => this.#end(generation, "error"));
    }
  }

  #end(generation: Generation, answer: Answer): void {
    if (generation.answer) return;
    generation.answer = answer;
    this.host.answered(generation);
    this.pending.delete(generation.taskId);
    const { host } = this;
    const { commandId } = generation;
    const id = () => CommandId.parse(host.newId());
    const finish = () => {
      const command = { type: "TaskFinished", finishedCommandId: commandId } as const;
      host.submit({ ...command, commandId: id() }, () => {});
      host.tell();
    };
    if (answer === "complete") return finish();
    const command = { type: "TaskCancelled", cancelledCommandId: commandId } as const;
    host.submit({ ...command, commandId: id() }, finish);
  }
}

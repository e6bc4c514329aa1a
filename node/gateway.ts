import { getLogger } from "@logtape/logtape";
import { type Chunk, isTerminal } from "../core/chunk.ts";
import { AppError, type ErrorInfo } from "../core/errors.ts";
import { CommandId, type ModelId, type NodeId, type TaskId, taskIdOf } from "../core/ids.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../net/topics.ts";
import type { MessageStream, Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { ControlPlane } from "./control_plane.ts";
import { PendingGeneration } from "./pending_generation.ts";
import type { Replica } from "./replica.ts";
import type { Reporter } from "./reporter.ts";

const log = getLogger(["exo", "gateway"]);

/** How long the runner may take to accept or refuse a generation (design, streamed answers). */
export const ACCEPT_TIMEOUT_MS = 10_000;

/** A generation that its runner has accepted; see `api/gateway.ts`. */
export interface AcceptedGeneration {
  readonly commandId: CommandId;
  readonly promptTokens: number;
  readonly chunks: AsyncIterable<Chunk>;
}

/** What a gateway works with. */
export interface GatewayDeps {
  readonly nodeId: NodeId;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly control: Pick<ControlPlane, "submit">;
  readonly reporter: Pick<Reporter, "followTask" | "forgetTask">;
}

/** Submits commands for this node's clients, keeps their prompts and follows their answers. */
export class Gateway {
  readonly #deps: GatewayDeps;
  readonly #pending = new Map<TaskId, PendingGeneration>();
  readonly #stops: (() => void)[] = [];

  constructor(deps: GatewayDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { transport, replica } = this.#deps;
    this.#stops.push(
      transport.handleStream(GENERATION.protocol, (stream) => void this.#serve(stream)),
      replica.onChange(() => this.#failOrphans()),
    );
  }

  /** Ends every generation in progress with an error. */
  stop(): void {
    for (const stop of this.#stops) stop();
    const message = "The node is stopping";
    for (const pending of this.#pending.values()) pending.fail({ code: "not_ready", message });
  }

  /**
   * Starts a generation; resolves when its runner has accepted it. A runner that dies before that
   * costs the client nothing: the request is given once more to a ready instance.
   * @throws {AppError} why it was refused.
   */
  async generate(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<AcceptedGeneration> {
    try {
      return await this.#attempt(modelId, payload, signal);
    } catch (cause) {
      if (!(cause instanceof AppError) || cause.code !== "runner_failed") throw cause;
      try {
        return await this.#attempt(modelId, payload, signal);
      } catch {
        // What went wrong first says more than that nobody else could help.
        throw cause;
      }
    }
  }

  async #attempt(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<AcceptedGeneration> {
    const { clock, control, reporter, nodeId } = this.#deps;
    const commandId = CommandId.parse(clock.newId());
    const taskId = taskIdOf(commandId);
    const pending = new PendingGeneration(payload);
    this.#pending.set(taskId, pending);
    reporter.followTask(taskId);
    let finished: Promise<void> | undefined;
    const finish = () => {
      signal.removeEventListener("abort", finish);
      this.#pending.delete(taskId);
      pending.abandon();
      return finished ??= this.#finish(commandId, pending.ended);
    };
    signal.addEventListener("abort", finish);
    try {
      signal.throwIfAborted();
      const { instanceId } = await control.submit({
        type: "TextGeneration",
        commandId,
        modelId,
        apiNodeId: nodeId,
      });
      pending.instanceId = instanceId;
      // What happened to the task before this line would otherwise go unseen.
      this.#failOrphans();
      const promptTokens = await pending.accepted(ACCEPT_TIMEOUT_MS);
      return { commandId, promptTokens, chunks: follow(pending, finish) };
    } catch (cause) {
      await finish();
      throw cause;
    }
  }

  /** Forgets the task everywhere; one that has not ended by itself is cancelled first. */
  async #finish(id: CommandId, ended: boolean): Promise<void> {
    const { clock, control, reporter } = this.#deps;
    const commandId = () => CommandId.parse(clock.newId());
    try {
      if (!ended) {
        const cancel = { type: "TaskCancelled" as const, cancelledCommandId: id };
        await control.submit({ ...cancel, commandId: commandId() });
      }
      await control.submit({ type: "TaskFinished", commandId: commandId(), finishedCommandId: id });
    } catch (cause) {
      log.warn("cannot finish {id}: {cause}", { id, cause });
    } finally {
      // Whatever the state still has of it is reported as gone.
      reporter.forgetTask(taskIdOf(id));
    }
  }

  /** A worker has opened the stream of one of our generations: the prompt down, chunks up. */
  async #serve(stream: MessageStream): Promise<void> {
    const messages = stream[Symbol.asyncIterator]();
    try {
      const hello = await messages.next();
      if (hello.done) return;
      const { taskId } = decodeMessage(GENERATION.hello, hello.value);
      const pending = this.#pending.get(taskId);
      if (!pending) return stream.abort(`task ${taskId} is not known here`);
      pending.onAbandon(() => stream.abort("the client is gone"));
      await stream.send(encodeMessage(pending.payload));
      for (let next = await messages.next(); !next.done; next = await messages.next()) {
        const chunk = decodeMessage(GENERATION.chunk, next.value);
        await pending.push(chunk);
        if (isTerminal(chunk)) break;
      }
      stream.end();
      // Without a last chunk the task's own status will say more, if it comes in time.
      pending.failSoon({ code: "runner_failed", message: "The answer broke off" });
    } catch (cause) {
      log.debug("a generation stream broke: {cause}", { cause });
      stream.abort("the stream could not be read");
    }
  }

  /** A generation whose task ended without a last word gets one here, so that no client hangs. */
  #failOrphans(): void {
    const { tasks, instances } = this.#deps.replica.state;
    for (const [taskId, pending] of this.#pending) {
      if (pending.instanceId === undefined) continue;
      const status = tasks.get(taskId)?.taskStatus;
      if (status === "Pending" || status === "Running" || status === "Complete") continue;
      const isRemoved = !instances.has(pending.instanceId);
      pending.failSoon(isRemoved ? REMOVED : status === "Cancelled" ? CANCELLED : FAILED);
    }
  }
}

const REMOVED: ErrorInfo = {
  code: "instance_removed",
  message: "The instance was removed while generating",
  hint: "place the model again, then ask again: exo instance create MODEL",
};
const CANCELLED: ErrorInfo = { code: "cancelled", message: "The request was cancelled" };
const FAILED: ErrorInfo = {
  code: "runner_failed",
  message: "The runner failed while generating",
  hint: "the instance restarts by itself; try again in a few seconds",
};

/** Yields up to the last chunk; leaving early cancels. */
async function* follow(
  pending: PendingGeneration,
  finish: () => Promise<void>,
): AsyncGenerator<Chunk> {
  try {
    for await (const chunk of pending.chunks()) {
      yield chunk;
      if (isTerminal(chunk)) return;
    }
  } finally {
    await finish();
  }
}

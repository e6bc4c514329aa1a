import { getLogger } from "@logtape/logtape";
import { isTerminal } from "../core/chunk.ts";
import { AppError } from "../core/errors.ts";
import { CommandId, type InstanceId, type ModelId, type NodeId } from "../core/ids.ts";
import { type TaskId, taskIdOf } from "../core/ids.ts";
import { nodesByRank } from "../core/instance.ts";
import { type GivenTo, givenTo } from "../core/second_try.ts";
import type { Millis } from "../core/units.ts";
import { nodeNames } from "../core/placement_view.ts";
import type { TextGenerationPayload } from "../core/task.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../net/topics.ts";
import type { MessageStream, Transport } from "../net/transport.ts";
import type { Clock } from "./clock.ts";
import type { ControlPlane } from "./control_plane.ts";
import { type AcceptedGeneration, type Attempt, follow, isMovable } from "./generation_attempt.ts";
import { BROKE_OFF, lostNode, orphaned } from "./generation_errors.ts";
import { ACCEPT_TIMEOUT_MS, PendingGeneration } from "./pending_generation.ts";
import type { Replica } from "./replica.ts";
import type { Reporter } from "./reporter.ts";
import { REMADE_WAIT_MS, untilServed } from "./second_try.ts";

const log = getLogger(["exo", "gateway"]);

/** Instances that a request is given to, one after the other, until one has said something. */
export const TRIES_MAX = 2;

/** Changes of the master after which a request is asked anew: until one has given it to anybody. */
export const MASTER_CHANGES_MAX = 3;

/** What a gateway works with. */
export interface GatewayDeps {
  readonly nodeId: NodeId;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly control: Pick<ControlPlane, "submit">;
  readonly reporter: Pick<Reporter, "followTask" | "forgetTask">;
}

/** What a client asks for. */
interface Request {
  readonly modelId: ModelId;
  readonly payload: TextGenerationPayload;
  readonly signal: AbortSignal;
}

/** Submits commands for this node's clients, keeps their prompts and follows their answers. */
export class Gateway {
  readonly #deps: GatewayDeps;
  readonly #pending = new Map<TaskId, PendingGeneration>();
  readonly #stops: (() => void)[] = [];
  readonly #stopping = new AbortController();

  constructor(deps: GatewayDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { transport, replica } = this.#deps;
    this.#stops.push(
      transport.handleStream(GENERATION.protocol, (stream) => void this.#serve(stream)),
      transport.onPeer(({ isConnected }) => {
        if (!isConnected) this.#failUnreachable(this.#pending.values());
      }),
      replica.onChange(() => this.#failOrphans()),
    );
  }

  /** Ends every generation in progress with an error. */
  stop(): void {
    for (const stop of this.#stops) stop();
    this.#stopping.abort();
    const message = "The node is stopping";
    for (const pending of this.#pending.values()) pending.fail({ code: "not_ready", message });
  }

  /**
   * Starts a generation; resolves when its runner has accepted it. A runner, or a node, that dies
   * before it has said a word costs the client nothing but time: the request is given once more, to
   * another ready instance, or to the same one when it is made anew in time.
   * @throws {AppError} why it was refused.
   */
  async generate(
    modelId: ModelId,
    payload: TextGenerationPayload,
    signal: AbortSignal,
  ): Promise<AcceptedGeneration> {
    const request = { modelId, payload, signal };
    const { clock, replica } = this.#deps;
    const startedAt = clock.uptime();
    let tries = 0;
    let changes = 0;
    let failed: GivenTo | undefined;
    const assigned = (instanceId: InstanceId | undefined) => {
      failed = instanceId === undefined ? undefined : givenTo(replica.state, instanceId);
    };
    const attempt = async (until: Millis): Promise<Attempt> => {
      tries++;
      try {
        return await this.#attempt(request, until, failed?.instanceId, assigned);
      } catch (cause) {
        if (isMasterChange(cause) && changes < MASTER_CHANGES_MAX && !signal.aborted) {
          changes++;
          tries--; // No instance has had it.
          return await attempt(until);
        }
        const isOver = tries >= TRIES_MAX || signal.aborted || !(cause instanceof AppError) ||
          !isMovable(cause.code);
        if (isOver) throw cause;
        await elsewhere();
        // What went wrong first says more than that nobody else could help.
        return await attempt(until).catch(() => Promise.reject(cause));
      }
    };
    const elsewhere = async () => {
      const until = startedAt + REMADE_WAIT_MS;
      const over = AbortSignal.any([signal, this.#stopping.signal]);
      if (failed) await untilServed(this.#deps, { modelId, failed, until, signal: over });
    };
    const accepted = await attempt(startedAt + ACCEPT_TIMEOUT_MS);
    const { commandId, promptTokens } = accepted;
    const again = async () => {
      if (tries >= TRIES_MAX || signal.aborted) return undefined;
      await elsewhere();
      return await attempt(clock.uptime() + ACCEPT_TIMEOUT_MS).catch(() => undefined);
    };
    return { commandId, promptTokens, chunks: follow(accepted, again) };
  }

  async #attempt(
    { modelId, payload, signal }: Request,
    until: Millis,
    avoid: InstanceId | undefined,
    assigned: (instanceId: InstanceId | undefined) => void,
  ): Promise<Attempt> {
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
        ...(avoid === undefined ? {} : { avoid }),
      });
      assigned(instanceId);
      pending.assign(instanceId);
      // What happened to the task before this line would otherwise go unseen.
      this.#failOrphans();
      this.#failUnreachable([pending]);
      const promptTokens = await pending.accepted(until - clock.uptime());
      return { commandId, promptTokens, chunks: pending.chunks(), finish };
    } catch (cause) {
      void finish();
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
    let answered: PendingGeneration | undefined;
    try {
      const hello = await messages.next();
      if (hello.done) return;
      const { taskId } = decodeMessage(GENERATION.hello, hello.value);
      const pending = this.#pending.get(taskId);
      if (!pending) return stream.abort(`task ${taskId} is not known here`);
      // A prompt reaches one machine: that of the first rank, which leads and speaks for all.
      const [speaker] = this.#nodesOf(await pending.assigned());
      if (speaker !== stream.peer) return stream.abort(`task ${taskId} is not for that node`);
      if (!pending.claim()) return stream.abort(`task ${taskId} is being answered`);
      answered = pending;
      pending.onAbandon(() => stream.abort("the client is gone"));
      await stream.send(encodeMessage(pending.payload));
      for (let next = await messages.next(); !next.done; next = await messages.next()) {
        const chunk = decodeMessage(GENERATION.chunk, next.value);
        await answered.push(chunk);
        if (isTerminal(chunk)) break;
      }
      stream.end();
    } catch (cause) {
      log.debug("a generation stream broke: {cause}", { cause });
      stream.abort("the stream could not be read");
    } finally {
      // Without a last chunk the task's own status will say more, if it comes in time.
      if (answered) this.#broken(answered, stream.peer);
    }
  }

  /** The nodes that serve an instance, by rank; none when it is not there. */
  #nodesOf(instanceId: InstanceId | undefined): readonly NodeId[] {
    const { instances } = this.#deps.replica.state;
    const instance = instanceId === undefined ? undefined : instances.get(instanceId);
    return instance ? nodesByRank(instance) : [];
  }

  /** What a node that cannot be reached was to answer is not waited for, unless it comes at once. */
  #failUnreachable(all: Iterable<PendingGeneration>): void {
    for (const pending of all) {
      const speaker = this.#nodesOf(pending.instanceId)[0];
      if (speaker !== undefined && !this.#isThere(speaker)) this.#broken(pending, speaker);
    }
  }

  #isThere(id: NodeId): boolean {
    const { transport } = this.#deps;
    return id === transport.self || transport.peers().has(id);
  }

  #broken(pending: PendingGeneration, peer: NodeId): void {
    const { state } = this.#deps.replica;
    pending.failSoon(
      this.#isThere(peer) ? BROKE_OFF : lostNode(nodeNames(state).get(peer) ?? peer),
    );
  }

  /** A generation whose task ended without a last word gets one here, so that no client hangs. */
  #failOrphans(): void {
    const { state } = this.#deps.replica;
    for (const [taskId, pending] of this.#pending) {
      if (pending.instanceId === undefined) continue;
      const error = orphaned(state, taskId, pending.instanceId);
      if (error) pending.failSoon(error);
    }
  }
}

/** Whether no master has given the request to an instance, as far as anybody can tell. */
function isMasterChange(cause: unknown): boolean {
  return cause instanceof AppError && cause.code === "master_changed";
}

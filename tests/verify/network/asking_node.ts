import type { Chunk } from "../../../core/chunk.ts";
import type { Command, CommandReply } from "../../../core/commands.ts";
import type { NodeId, TaskId } from "../../../core/ids.ts";
import { accepted, decide } from "../../../core/master.ts";
import { EMPTY_STATE, encodeState } from "../../../core/state.ts";
import type { Transport } from "../../../net/transport.ts";
import { SYSTEM_CLOCK } from "../../../node/clock.ts";
import { Gateway } from "../../../node/gateway.ts";
import { Replica } from "../../../node/replica.ts";
import {
  created,
  decideContext,
  fold,
  instanceOf,
  MODEL,
  reported,
} from "../../support/fixtures.ts";

/** Nobody but the worker of an answer gets to know it. */
export const PROMPT = "a secret";

/** What the clients ask for. */
export const PAYLOAD = {
  messages: [{ role: "user" as const, content: PROMPT }],
  sampling: { temperature: 0.5 },
  stop: ["x"],
  seed: "1",
};

/** What a worker has to say to that. */
export const ANSWER: readonly Chunk[] = [
  { type: "Accepted", promptTokens: 3 },
  { type: "Token", text: "hi", tokenId: 0 },
  {
    type: "Finish",
    finishReason: "stop",
    usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
    stats: { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 },
  },
];

type Accepted = Extract<CommandReply, { type: "CommandAccepted" }>;

/** A node whose clients want answers of another: its gateway, and a master of a few lines. */
export class AskingNode implements Disposable {
  /** What the worker does when it gets a task. */
  serve: (taskId: TaskId) => void = () => {};
  readonly #gateway: Gateway;
  readonly #replica: Replica;
  /** Tasks that clients wait for. */
  readonly #followed = new Set<TaskId>();

  /** `worker` has an instance that is ready. */
  constructor(transport: Transport, worker: NodeId) {
    const ready = [created(instanceOf("i", [worker])), reported("i:0", "RunnerReady")];
    const replica = this.#replica = new Replica(fold(ready));
    const submit = (command: Command): Promise<Accepted> => {
      const decision = decide(replica.state, command, decideContext(new Map()));
      replica.set(fold(decision.events, replica.state));
      for (const event of decision.events) {
        if (event.type === "TaskCreated") this.serve(event.task.taskId);
      }
      const { lastEventAppliedIdx } = replica.state;
      return Promise.resolve(accepted(command, lastEventAppliedIdx, decision) as Accepted);
    };
    const reporter = {
      followTask: (taskId: TaskId) => void this.#followed.add(taskId),
      forgetTask: (taskId: TaskId) => void this.#followed.delete(taskId),
    };
    const deps = { nodeId: transport.self, replica, transport, clock: SYSTEM_CLOCK, reporter };
    this.#gateway = new Gateway({ ...deps, control: { submit } });
    this.#gateway.start();
  }

  /** What is there once all answers have ended: the state without its count of events. */
  left(): string {
    const { state } = this.#replica;
    const kept = { ...state, lastEventAppliedIdx: 0, lineage: EMPTY_STATE.lineage };
    return `${encodeState(kept)}, ${this.#followed.size} followed`;
  }

  /** What a client gets until `signal`, when it leaves; the last is a last chunk, or an error. */
  async answer(signal = new AbortController().signal): Promise<readonly (Chunk | Error)[]> {
    try {
      const { chunks } = await this.#gateway.generate(MODEL, PAYLOAD, signal);
      return await Array.fromAsync(chunks);
    } catch (cause) {
      return [cause as Error];
    }
  }

  [Symbol.dispose](): void {
    this.#gateway.stop();
  }
}

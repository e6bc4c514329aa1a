import { getLogger } from "@logtape/logtape";
import type { NodeId, TaskId } from "../core/ids.ts";
import { nodeNames } from "../core/placement_view.ts";
import type { PrefillRates } from "../core/prefill.ts";
import { isInFlight, type Task } from "../core/task.ts";
import type { Transport } from "../net/transport.ts";
import { GenerationRelay } from "./generation_relay.ts";
import type { PrefillAsker } from "./prefill_asker.ts";
import type { Rank } from "./rank.ts";
import type { Replica } from "./replica.ts";
import type { Reporter } from "./reporter.ts";

const log = getLogger(["exo", "worker"]);

/** What generations are begun with. */
interface GenerationsDeps {
  readonly nodeId: NodeId;
  readonly replica: Replica;
  readonly transport: Transport;
  readonly reporter: Reporter;
  readonly newId: () => TaskId;
  /** Who finds others that read prompts; absent: nobody does. */
  readonly asker: PrefillAsker | undefined;
}

/** Fetches prompts and hands them to the ranks of this node that lead. */
export class Generations {
  readonly #deps: GenerationsDeps;

  constructor(deps: GenerationsDeps) {
    this.#deps = deps;
  }

  /** Begins a task; one that cannot be begun fails with the reason. */
  async begin(taskId: TaskId, rank: Rank): Promise<void> {
    const { replica, transport } = this.#deps;
    const task = replica.state.tasks.get(taskId);
    if (!task) return;
    rank.dispatched.add(taskId);
    try {
      const { relay, payload } = await GenerationRelay.open(transport, task.apiNodeId, taskId);
      const wanted = replica.state.tasks.get(taskId);
      if (!wanted || !isInFlight(wanted)) {
        return relay.fail({ code: "cancelled", message: "The request was cancelled" });
      }
      const { incarnation } = rank;
      const prefill = this.#prefillRates(task);
      rank.generate({ type: "TextGeneration", taskId, incarnation, payload, ...prefill }, relay);
      relay.onBroken(() => this.#readerGone(task, rank));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      log.warn("cannot fetch the prompt of {taskId}: {reason}", { taskId, reason });
      await this.#fail(task, `its prompt could not be fetched: ${reason}`);
    }
  }

  /** What is known of who may read the prompt, if anybody can be reached. */
  #prefillRates({ prefill: source }: Task): { prefill?: PrefillRates } {
    const { replica: { state }, asker } = this.#deps;
    const prefill = source && asker?.rates(state, source);
    return prefill ? { prefill } : {};
  }

  /** A client that has gone says so itself; a node that cannot be reached cannot. */
  #readerGone(task: Task, rank: Rank): void {
    const { transport, newId } = this.#deps;
    const { taskId, apiNodeId } = task;
    if (!rank.abandon(taskId, newId())) return;
    if (apiNodeId === transport.self || transport.peers().has(apiNodeId)) return;
    rank.settle(taskId);
    log.warn("node {apiNodeId} is out of reach: {taskId} is cancelled", { apiNodeId, taskId });
    this.#fail(task, "the node that asked cannot be reached from there")
      .catch((cause) => log.error("cannot end {taskId}: {reason}", { taskId, reason: `${cause}` }));
  }

  async #fail({ taskId }: Task, reason: string): Promise<void> {
    const { replica: { state }, reporter, nodeId } = this.#deps;
    const name = nodeNames(state).get(nodeId) ?? nodeId;
    const errorMessage = `Node "${name}" gave the request up: ${reason}`;
    const errorType = "node_unreachable";
    await reporter.report({ type: "TaskFailed", taskId, errorType, errorMessage });
  }
}

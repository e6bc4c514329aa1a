import type { StateView } from "../../api/client_state.ts";
import type { Cluster } from "./cluster.ts";
import { type Answer, answerOf, LEFT } from "./cluster_client.ts";
import type { ClusterNode } from "./cluster_node.ts";
import { Random } from "./random.ts";

/** How long a client waits that got an error, as a good client does. */
const AFTER_ERROR_MS = 100;
/** How often it is looked at which tasks there are. */
const LOOK_MS = 250;

/** What clients ask, and how long they may have to wait for an end of any kind. */
export interface LoadOptions {
  readonly model: string;
  readonly seed: number;
  readonly clients: number;
  /** Words of a question at most; a fake engine says them back. */
  readonly wordsMax: number;
  readonly answerMsMax: number;
  /** Share of the answers that are left at a random point. */
  readonly leftShare?: number;
}

/** What a load has come to. */
export interface LoadReport {
  readonly whole: number;
  /** By node: when it was last asked something that it then answered whole. */
  readonly askedWholeAt: ReadonlyMap<number, number>;
  readonly left: number;
  /** By the error that they ended with. */
  readonly broken: ReadonlyMap<string, number>;
  /** The answer that took longest to end, and how. */
  readonly longest: Pick<Answer, "tookMs" | "end" | "pieces">;
  /** The task that was under way for longest, as a node saw it that has a part in it. */
  readonly oldestTask: { readonly ageMs: number; readonly node: number; readonly task: unknown };
}

/** Clients that ask nodes at random, one question after the other, until they are stopped. */
export class ClusterLoad {
  readonly #cluster: Cluster;
  readonly #options: LoadOptions;
  readonly #broken = new Map<string, number>();
  readonly #askedWholeAt = new Map<number, number>();
  /** By node. */
  readonly #tasksSeenAt: ReadonlyMap<string, number>[] = [];
  readonly #asking: Promise<unknown>;
  readonly #watching: Promise<unknown>;
  #isAsking = true;
  #isWatching = true;
  #whole = 0;
  #left = 0;
  #longest: LoadReport["longest"] = { tookMs: 0, end: "", pieces: 0 };
  #oldestTask: LoadReport["oldestTask"] = { ageMs: 0, node: 0, task: undefined };

  constructor(cluster: Cluster, options: LoadOptions) {
    this.#cluster = cluster;
    this.#options = options;
    const clients = Array.from({ length: options.clients }, (_, n) => this.#ask(n));
    this.#asking = Promise.all(clients);
    this.#watching = this.#watchTasks();
    // They are heard of when the load is stopped.
    for (const part of [this.#asking, this.#watching]) part.catch(() => {});
  }

  /** Lets each client have its answer; tasks are watched on. @throws what did not come in time. */
  async stopAsking(): Promise<void> {
    this.#isAsking = false;
    await this.#asking;
  }

  /** Ends it all. @throws what a client did not get in time. */
  async stop(): Promise<LoadReport> {
    await this.stopAsking();
    this.#isWatching = false;
    await this.#watching;
    return this.report();
  }

  /** What has come of it so far. */
  report(): LoadReport {
    return {
      whole: this.#whole,
      askedWholeAt: this.#askedWholeAt,
      left: this.#left,
      broken: this.#broken,
      longest: this.#longest,
      oldestTask: this.#oldestTask,
    };
  }

  async #ask(client: number): Promise<void> {
    const { model, seed, wordsMax, answerMsMax, leftShare = 0 } = this.#options;
    const random = new Random(seed + client);
    for (let n = 0; this.#isAsking; n++) {
      const node = random.pick(this.#cluster.running);
      const words = Array.from(
        { length: 1 + random.below(wordsMax) },
        (_, word) => `${client}-${n}-${word}`,
      );
      const content = words.join(" ");
      const leaveAfter = random.next() < leftShare ? 1 + random.below(words.length) : undefined;
      const askedAt = performance.now();
      const answer = await answerOf(node.client, { model, content, leaveAfter }, answerMsMax);
      this.#note(answer, content);
      if (answer.isWhole) this.#wholeAnswer(node, askedAt);
      if (!answer.isWhole && answer.end !== LEFT) await pause(AFTER_ERROR_MS);
    }
  }

  #note(answer: Answer, expected: string): void {
    const { isWhole, end, text } = answer;
    if (answer.tookMs > this.#longest.tookMs) this.#longest = answer;
    if (end === LEFT) this.#left++;
    else if (!isWhole) this.#broken.set(end, 1 + (this.#broken.get(end) ?? 0));
    else if (text !== expected) throw new Error(`Got "${text}" as the answer to "${expected}"`);
    else this.#whole++;
  }

  #wholeAnswer({ index }: ClusterNode, askedAt: number): void {
    const before = this.#askedWholeAt.get(index) ?? -Infinity;
    this.#askedWholeAt.set(index, Math.max(before, askedAt));
  }

  async #watchTasks(): Promise<void> {
    while (this.#isWatching) {
      await Promise.all(this.#cluster.running.map((node) => this.#lookAt(node)));
      await pause(LOOK_MS);
    }
  }

  async #lookAt(node: ClusterNode): Promise<void> {
    const state = await node.state();
    const now = performance.now();
    const seenAt = new Map<string, number>();
    for (const [id, task] of Object.entries(state.tasks)) {
      if (!isUnderWay(task, state, node.nodeId)) continue;
      const since = this.#tasksSeenAt[node.index]?.get(id) ?? now;
      seenAt.set(id, since);
      const ageMs = now - since;
      if (ageMs > this.#oldestTask.ageMs) this.#oldestTask = { ageMs, node: node.index, task };
    }
    // What is gone is not remembered, however long the load goes on.
    this.#tasksSeenAt[node.index] = seenAt;
  }
}

type TaggedTask = StateView["tasks"][string];

/**
 * Whether a node has something to do for a task, as its own state has it. What others do who cannot
 * be heard is not known to anybody.
 */
function isUnderWay(tagged: TaggedTask, { instances }: StateView, nodeId: string): boolean {
  return Object.values(tagged).some((value) => {
    const task = value as { taskStatus: string; instanceId: string; apiNodeId: string };
    const ranks = Object.values(instances[task.instanceId] ?? {})
      .flatMap(({ shardAssignments }) => Object.keys(shardAssignments.nodeToRunner));
    const isInFlight = task.taskStatus === "Pending" || task.taskStatus === "Running";
    return isInFlight && [task.apiNodeId, ...ranks].includes(nodeId);
  });
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

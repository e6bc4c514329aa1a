/** The plans of all nodes of an instance together: whatever starts anew, its ranks meet. */
import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import { groupIdOf } from "../../core/group.ts";
import type { NodeId, RunnerId, TaskId } from "../../core/ids.ts";
import { type Action, type Incarnations, type LocalRunner, plan } from "../../core/plan.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import type { State } from "../../core/state.ts";
import {
  A,
  B,
  C,
  created,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
} from "../support/fixtures.ts";

/** Rounds until a meeting must be over, however late nodes hear of each other. */
const ROUNDS_MAX = 60;

/** Rounds within which a node starts anew: those of a meeting that nothing befalls, and more. */
const STRUCK_ROUNDS = 12;

/** Processes of one rank from one restart on: its next, and one that met a rank of before. */
const STARTS_MAX = 2;

/** Rounds by which what a node knows of the others may be late. */
const LAGS = [0, 1, 3];

class Rank implements LocalRunner {
  readonly instanceId = instanceId("i");
  readonly busy = false;
  readonly dispatched = new Set<TaskId>();
  readonly cancelled = new Set<TaskId>();
  peers: Incarnations = new Map();
  status: RunnerStatus = { type: "RunnerIdle" };
  stopping = false;
  constructor(readonly incarnation: number) {}
}

/** The nodes of one instance, each of which sees the state as it was some rounds ago. */
class Meeting {
  readonly #instance;
  readonly #past: State[];
  readonly #ranks: (Rank | undefined)[];
  readonly starts: number[];

  constructor(readonly nodes: readonly NodeId[], readonly lags: readonly number[]) {
    this.#instance = instanceOf("i", nodes);
    const events = nodes.flatMap((nodeId) => [nodeStarted(nodeId), downloaded(nodeId)]);
    this.#past = [fold([...events, created(this.#instance)])];
    this.#ranks = nodes.map(() => undefined);
    this.starts = nodes.map(() => 0);
  }

  get isOver(): boolean {
    return this.#ranks.every((rank) => rank?.status.type === "RunnerConnected");
  }

  /** Each node does what it plans; what has changed by that is in the next state. */
  round(): void {
    const events = this.nodes.flatMap((_, rank) => this.#act(rank));
    const called = this.#ranks.map((rank) =>
      rank?.status.type === "RunnerConnecting" ? rank.status.groupId : undefined
    );
    if (called.every((groupId) => groupId !== undefined && groupId === called[0])) {
      for (const [at, rank] of this.#ranks.entries()) {
        if (rank) events.push(this.#become(at, rank, { type: "RunnerConnected" }));
      }
    }
    this.#past.push(fold(events, this.#now));
  }

  /** A node is killed with its runner, and starts anew. */
  strike(rank: number): void {
    const nodeId = this.nodes[rank] as NodeId;
    const had = this.#ranks[rank];
    this.#ranks[rank] = undefined;
    const left = had ? [this.#said(rank, had.incarnation, { type: "RunnerShutdown" })] : [];
    this.#past.push(fold([...left, nodeStarted(nodeId, 2)], this.#now));
  }

  get #now(): State {
    return this.#past.at(-1) as State;
  }

  #act(at: number): Event[] {
    const runnerId = this.#idOf(at);
    const state = this.#past.at(-1 - (this.lags[at] ?? 0)) ?? this.#past[0] as State;
    const rank = this.#ranks[at];
    const known = state.runners.get(runnerId)?.incarnation;
    // A process is forgotten once its node has seen that its end is known.
    if (rank?.stopping && known !== rank.incarnation) this.#ranks[at] = undefined;
    const left = this.#ranks[at];
    const runners = new Map(left ? [[runnerId, left]] : []);
    const view = { nodeId: this.nodes[at] as NodeId, runners, fetching: new Set<never>() };
    const action = plan(state, { ...view, branch: undefined }, 0);
    return action ? this.#perform(at, action) : [];
  }

  #perform(at: number, action: Action): Event[] {
    if (action.type === "CreateRunner") {
      const rank = new Rank(this.starts[at] = (this.starts[at] ?? 0) + 1);
      this.#ranks[at] = rank;
      return [this.#become(at, rank, rank.status)];
    }
    const rank = this.#ranks[at] as Rank;
    if (action.type === "ConnectToGroup") {
      rank.peers = action.peers;
      const own = [this.#idOf(at), rank.incarnation] as const;
      const groupId = groupIdOf(this.#instance, new Map([...action.peers, own]));
      return [this.#become(at, rank, { type: "RunnerConnecting", groupId })];
    }
    if (action.type !== "Shutdown") return [];
    rank.stopping = true;
    return [this.#become(at, rank, { type: "RunnerShutdown" })];
  }

  #become(at: number, rank: Rank, status: RunnerStatus): Event {
    rank.status = status;
    return this.#said(at, rank.incarnation, status);
  }

  #said(at: number, incarnation: number, status: RunnerStatus): Event {
    return { type: "RunnerStatusUpdated", runnerId: this.#idOf(at), status, incarnation, at: 0 };
  }

  #idOf(at: number): RunnerId {
    const { nodeToRunner } = this.#instance.shardAssignments;
    return nodeToRunner[this.nodes[at] as NodeId] as RunnerId;
  }
}

/** All ways to give each of so many nodes a lag. */
function lagsOf(count: number): number[][] {
  if (count === 0) return [[]];
  return lagsOf(count - 1).flatMap((lags) => LAGS.map((lag) => [...lags, lag]));
}

for (const nodes of [[A, B], [A, B, C]]) {
  Deno.test(`${nodes.length} ranks meet, whichever node starts anew and whenever`, () => {
    for (const lags of lagsOf(nodes.length)) {
      for (let struck = 0; struck < nodes.length; struck++) {
        for (let when = 0; when < STRUCK_ROUNDS; when++) {
          const meeting = new Meeting(nodes, lags);
          for (let round = 0; round < when; round++) meeting.round();
          const before = [...meeting.starts];
          meeting.strike(struck);
          let rounds = 0;
          while (rounds++ < ROUNDS_MAX && !meeting.isOver) meeting.round();
          const starts = meeting.starts.map((count, rank) => count - (before[rank] ?? 0));
          const seen = `rank ${struck} struck in round ${when}, lags ${lags}: ${starts} starts`;
          assert.ok(meeting.isOver, `no meeting in ${ROUNDS_MAX} rounds, ${seen}`);
          assert.ok(Math.max(...starts) <= STARTS_MAX, seen);
        }
      }
    }
  });
}

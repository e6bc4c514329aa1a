import { hasGroupWork } from "../core/group_work.ts";
import type { NodeId, RunnerId, TaskId } from "../core/ids.ts";
import { nodesOf } from "../core/instance_health.ts";
import { nodeNames } from "../core/placement_view.ts";
import type { State } from "../core/state.ts";
import { isServing } from "../core/runner_status.ts";
import type { Rank } from "./rank.ts";

/** How often a rank that has work, or its group, is asked whether it still answers. */
export const PING_MS = 1_000;

/** What a watch of groups knows. */
interface GroupWatchDeps {
  readonly state: () => State;
  /** Whether a node can be talked to. */
  readonly isThere: (nodeId: NodeId) => boolean;
  readonly newId: () => TaskId;
  /** Whether ranks that work alone are asked, too: nobody else tells what becomes of them. */
  readonly pingsAll: boolean;
}

/**
 * Sees to it that a rank which is stopped or hangs is noticed by its own node: while its group has
 * work it is asked for a sign of life, for one that is led says nothing by itself. Where the system
 * says nothing of processes, so are all others. A node that cannot be reached is but a suspicion: it
 * ends no group that still steps (design, suspicion).
 */
export class GroupWatch {
  readonly #ranks: ReadonlyMap<RunnerId, Rank>;
  readonly #deps: GroupWatchDeps;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(ranks: ReadonlyMap<RunnerId, Rank>, deps: GroupWatchDeps) {
    this.#ranks = ranks;
    this.#deps = deps;
  }

  /** Something may have changed. */
  look(): void {
    const { isThere, state } = this.#deps;
    const { instances } = state();
    for (const rank of this.#ranks.values()) {
      const instance = rank.isOfGroup ? instances.get(rank.instanceId) : undefined;
      const lost = instance ? nodesOf(instance).filter((nodeId) => !isThere(nodeId)) : [];
      const names = lost.length > 0 ? nodeNames(state()) : undefined;
      rank.suspect(lost.map((nodeId) => names?.get(nodeId) ?? nodeId));
    }
    if (this.#atWork().length === 0) this.stop();
    else this.#timer ??= setInterval(() => this.#ping(), PING_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #ping(): void {
    for (const rank of this.#atWork()) rank.ping(this.#deps.newId());
  }

  #atWork(): Rank[] {
    const { pingsAll } = this.#deps;
    const state = this.#deps.state();
    return [...this.#ranks.values()].filter((rank) => {
      const isAsked = pingsAll || rank.isOfGroup;
      const instance = isAsked ? state.instances.get(rank.instanceId) : undefined;
      const isUp = instance && !rank.stopping && isServing(rank.status);
      return isUp && hasGroupWork(state, instance);
    });
  }
}

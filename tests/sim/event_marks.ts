import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import { CONNECTION_LOST } from "../../core/reconcile_instances.ts";
import type { Ledger } from "./ledger.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Counts what masters decide, as far as it has to happen sometimes. */
export class EventMarks {
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #gone = new Set<NodeId>();

  constructor(world: World, ledger: Ledger) {
    this.#world = world;
    this.#ledger = ledger;
  }

  /** A master has decided something. */
  happened(node: SimNode, event: Event): void {
    const { marks } = this.#world;
    switch (event.type) {
      case "InstanceDeleted":
        if (event.failureError === CONNECTION_LOST) {
          marks.hit("instance: lost its node and placed anew");
        } else if (event.failureError?.startsWith(CONNECTION_LOST)) {
          marks.hit("instance: lost a way and placed anew");
        } else if (event.failureError !== undefined) marks.hit("instance: given up");
        break;
      case "InstanceRetrying":
        marks.hit("instance: retried with backoff");
        if (event.addresses) marks.hit("instance: retried at other addresses");
        if (event.failureError.includes("does not reach")) {
          marks.hit("instance: retried without a way");
        }
        break;
      case "InstanceRetriesReset":
        marks.hit("instance: retries reset");
        break;
      case "NodeLeft":
        marks.hit("node: left");
        this.#away(node, event.nodeId);
        break;
      case "NodeTimedOut":
        marks.hit("node: timed out");
        this.#away(node, event.nodeId);
        break;
      case "NodeStarted":
        if (event.incarnation > 1) marks.hit("node: restarted under its id");
        if (!this.#gone.delete(event.nodeId)) break;
        for (const instance of node.state.instances.values()) {
          const isThere = instance.shardAssignments.nodeToRunner[event.nodeId] !== undefined;
          if (isThere && !instance.metaInstanceId) {
            marks.hit("instance: unbound and its node came back");
          }
        }
        break;
      case "MetaInstanceReady":
        marks.hit("meta: ready");
        break;
      case "MetaInstancePlacementFailed":
        marks.hit("meta: placement failed");
        break;
      case "MetaInstanceParked":
        marks.hit("meta: parked");
        break;
      case "MetaInstanceRearmed":
        marks.hit(
          this.#ledger.isRetryAsked(event.metaInstanceId)
            ? "meta: re-armed by the user"
            : "meta: re-armed by the topology",
        );
        break;
      case "MetaInstanceCardResolved":
        marks.hit("meta: card resolved");
        break;
      case "LineageMerged": {
        const { modelCards, metaInstances, instances, links, deleted } = event;
        marks.hit("branch: merged");
        if ([modelCards, metaInstances, instances, links].some(({ length }) => length > 0)) {
          marks.hit("branch: creation merged");
        }
        if (deleted.length > 0) marks.hit("branch: deletion merged");
        break;
      }
    }
  }

  /** A node is gone: whose instances wait for it? */
  #away({ state }: SimNode, nodeId: NodeId): void {
    this.#gone.add(nodeId);
    for (const { shardAssignments, metaInstanceId } of state.instances.values()) {
      if (shardAssignments.nodeToRunner[nodeId] === undefined || metaInstanceId) continue;
      this.#world.marks.hit("instance: unbound and its node is away");
    }
  }
}

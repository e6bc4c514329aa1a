import { getLogger } from "@logtape/logtape";
import { AppError } from "../core/errors.ts";
import { type InstanceId, type NodeId, TaskId } from "../core/ids.ts";
import type { PrefillEnd } from "../core/prefill.ts";
import { isServing } from "../core/runner_status.ts";
import type { Bulk, StreamOffer } from "../net/bulk.ts";
import { PREFILL } from "../net/prefill_messages.ts";
import { decodeMessage, encodeMessage } from "../net/topics.ts";
import type { Transport } from "../net/transport.ts";
import type { PrefillRings } from "./prefill_rings.ts";
import type { Rank } from "./rank.ts";

const log = getLogger(["exo", "prefill"]);

/** Prompts that a node reads for others at once, over all its runners. */
export const PREFILLS_MAX = 16;

/** How long whoever asked may take to come for the bytes. */
export const PREFILL_CLAIM_MS = 15_000;

/** What a node serves others' prompts with. */
export interface PrefillServerDeps {
  readonly transport: Pick<Transport, "handle">;
  readonly bulk: Pick<Bulk, "offerStream">;
  readonly rings: PrefillRings;
  readonly rankOf: (instanceId: InstanceId) => Rank | undefined;
  readonly newId: () => string;
}

interface Sending {
  readonly rank: Rank;
  readonly offer: StreamOffer;
  readonly claim: ReturnType<typeof setTimeout>;
}

/** Has prompts of other nodes read by this node's runners, and sends what comes of it. */
export class PrefillServer {
  readonly #deps: PrefillServerDeps;
  readonly #sending = new Map<TaskId, Sending>();
  readonly #stop: () => void;

  /** Answers from now on. */
  constructor(deps: PrefillServerDeps) {
    this.#deps = deps;
    this.#stop = deps.transport.handle(
      PREFILL.protocol,
      (body, from) => Promise.resolve(encodeMessage(this.#serve(body, from))),
    );
  }

  /** Breaks what is under way. */
  close(): void {
    this.#stop();
    for (const transferId of this.#sending.keys()) this.#end(transferId, {});
  }

  /** A runner has written so many bytes; `end`: these are all, or `error` says why not. */
  flow(transferId: TaskId, bytes: number, end: PrefillEnd | undefined): void {
    const sending = this.#sending.get(transferId);
    if (end?.error) {
      // Whoever asked finds that the offer is gone, and reads the prompt itself.
      const { message: reason } = end.error;
      log.warn("a prompt of another node was not read: {reason}", { reason });
      sending?.offer.withdraw();
      this.#forget(transferId);
    } else sending?.offer.written(bytes, end !== undefined);
  }

  /** The runner is gone. */
  drop(rank: Rank): void {
    for (const [transferId, { rank: own, offer }] of this.#sending) {
      if (own !== rank) continue;
      offer.withdraw();
      this.#forget(transferId);
    }
  }

  #serve(body: Uint8Array, from: NodeId): { offerId: string } {
    const { instanceId, request } = decodeMessage(PREFILL.request, body);
    const { bulk, rings, newId } = this.#deps;
    const rank = this.#rankFor(instanceId);
    const transferId = TaskId.parse(newId());
    const ring = rings.next(transferId);
    const offer = bulk.offerStream(from, ring, (bytes, isOver) => {
      clearTimeout(this.#sending.get(transferId)?.claim);
      if (isOver) this.#end(transferId, {});
      else this.#tell(transferId, bytes);
    });
    const claim = setTimeout(() => this.#end(transferId, {}), PREFILL_CLAIM_MS);
    this.#sending.set(transferId, { rank, offer, claim });
    const { incarnation } = rank;
    rank.process.send({ type: "Prefill", taskId: transferId, incarnation, request, ring });
    return { offerId: offer.offerId };
  }

  /** @throws {AppError} `not_found`, `not_ready` or `queue_full`. */
  #rankFor(instanceId: InstanceId): Rank {
    const rank = this.#deps.rankOf(instanceId);
    const wanted = `Cannot prefill for another instance on ${instanceId}`;
    if (!rank) throw new AppError("not_found", `${wanted}: it has no rank on this node`);
    if (!isServing(rank.status) || rank.stopping) {
      throw new AppError("not_ready", `${wanted}: its runner is ${rank.status.type}`, {
        hint: "exo instance list shows when it is ready",
      });
    }
    const underWay = this.#sending.size;
    if (underWay < PREFILLS_MAX) return rank;
    const found = `${underWay} prompts are under way, at most ${PREFILLS_MAX} may be`;
    throw new AppError("queue_full", `${wanted}: ${found}`, { hint: "link more instances" });
  }

  /** The runner forgets it, if it has not yet. */
  #end(transferId: TaskId, end: PrefillEnd): void {
    const sending = this.#sending.get(transferId);
    if (!sending) return;
    sending.offer.withdraw();
    this.#tell(transferId, 0, end);
    this.#forget(transferId);
  }

  #tell(transferId: TaskId, bytes: number, end?: PrefillEnd): void {
    const rank = this.#sending.get(transferId)?.rank;
    rank?.process.send({
      ...{ type: "PrefillFlow", transferId, bytes, incarnation: rank.incarnation },
      taskId: TaskId.parse(this.#deps.newId()),
      ...(end ? { end } : {}),
    });
  }

  #forget(transferId: TaskId): void {
    clearTimeout(this.#sending.get(transferId)?.claim);
    this.#sending.delete(transferId);
    this.#deps.rings.remove({ ...this.#deps.rings.next(transferId) });
  }
}

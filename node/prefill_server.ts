import { getLogger } from "@logtape/logtape";
import { AppError } from "../core/errors.ts";
import { type InstanceId, type NodeId, TaskId } from "../core/ids.ts";
import { PREFILL_TOKENS_MAX, type PrefillEnd, type RingFile } from "../core/prefill.ts";
import { isServing } from "../core/runner_status.ts";
import type { Bulk, StreamOffer } from "../net/bulk.ts";
import { decodeQuestion, PREFILL, tokensOf } from "../net/prefill_messages.ts";
import { encodeMessage } from "../net/topics.ts";
import type { Transport } from "../net/transport.ts";
import type { PrefillRings } from "./prefill_rings.ts";
import type { Rank } from "./rank.ts";

const log = getLogger(["exo", "prefill"]);

/** Prompts that a node reads for others at once, over all its runners. */
export const PREFILLS_MAX = 16;

/** Their tokens together: the commands that have them fit in front of a runner that reads none. */
export const PREFILLS_TOKENS_MAX = PREFILL_TOKENS_MAX;

/** How long whoever asked may take to come for the bytes. */
export const PREFILL_CLAIM_MS = 15_000;

/** What a node serves others' prompts with. */
export interface PrefillServerDeps {
  readonly transport: Pick<Transport, "handle">;
  readonly bulk: Pick<Bulk, "offerStream">;
  readonly rings: PrefillRings;
  readonly rankOf: (instanceId: InstanceId) => Rank | undefined;
  /** Whether a link has the instance read for others. */
  readonly isLinked: (instanceId: InstanceId) => boolean;
  readonly newId: () => string;
}

interface Sending {
  readonly rank: Rank;
  readonly tokens: number;
  readonly ring: RingFile;
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
      (body, from) => Promise.try(() => encodeMessage(this.#serve(body, from))),
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
      // Whoever asked hears of it, and reads the prompt itself.
      const { message: reason } = end.error;
      log.warn("a prompt of another node was not read: {reason}", { reason });
      sending?.offer.withdraw(end.error);
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
    const question = decodeQuestion(body);
    const { stopPos } = question.request;
    const { rings, newId } = this.#deps;
    const rank = this.#rankFor(question.instanceId, stopPos);
    // Not before: others may ask for what nobody here has, with megabytes of tokens.
    const request = { ...question.request, tokenIds: tokensOf(question) };
    const transferId = TaskId.parse(newId());
    const ring = rings.next(transferId);
    const sent = (bytes: number, isOver: boolean) => {
      clearTimeout(this.#sending.get(transferId)?.claim);
      if (isOver) this.#end(transferId, {});
      else this.#tell(transferId, bytes);
    };
    const offer = this.#offer(from, ring, sent);
    const claim = setTimeout(() => this.#end(transferId, {}), PREFILL_CLAIM_MS);
    this.#sending.set(transferId, { rank, tokens: stopPos + 1, ring, offer, claim });
    const { incarnation } = rank;
    rank.process.send({ type: "Prefill", taskId: transferId, incarnation, request, ring });
    return { offerId: offer.offerId };
  }

  #offer(to: NodeId, ring: RingFile, sent: (bytes: number, isOver: boolean) => void): StreamOffer {
    const { bulk, rings } = this.#deps;
    try {
      return bulk.offerStream(to, ring, sent);
    } catch (cause) {
      rings.release(ring);
      throw cause;
    }
  }

  /** @throws {AppError} `not_found`, `not_ready`, `context_length_exceeded` or `queue_full`. */
  #rankFor(instanceId: InstanceId, stopPos: number): Rank {
    const { rankOf, isLinked } = this.#deps;
    const rank = rankOf(instanceId);
    const wanted = `Cannot prefill for another instance on ${instanceId}`;
    if (!rank) throw new AppError("not_found", `${wanted}: it has no rank on this node`);
    if (!isLinked(instanceId)) {
      throw new AppError("not_found", `${wanted}: no link has it prefill for others`);
    }
    if (!isServing(rank.status) || rank.stopping) {
      throw new AppError("not_ready", `${wanted}: its runner is ${rank.status.type}`, {
        hint: "exo instance list shows when it is ready",
      });
    }
    if (stopPos >= rank.contextTokensMax) {
      const found = `a prompt of ${stopPos} tokens and more, below ${rank.contextTokensMax} needed`;
      throw new AppError("context_length_exceeded", `${wanted}: ${found}`);
    }
    this.#requirePlace(wanted, stopPos + 1);
    return rank;
  }

  #requirePlace(wanted: string, tokens: number): void {
    const underWay = this.#sending.size;
    const sum = [...this.#sending.values()].reduce((all, one) => all + one.tokens, 0);
    if (underWay < PREFILLS_MAX && sum + tokens <= PREFILLS_TOKENS_MAX) return;
    const found = `${underWay} prompts of ${sum} tokens are under way, at most ${PREFILLS_MAX} ` +
      `of ${PREFILLS_TOKENS_MAX} may be`;
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
    const sending = this.#sending.get(transferId);
    if (!sending) return;
    clearTimeout(sending.claim);
    this.#sending.delete(transferId);
    this.#deps.rings.remove(sending.ring);
  }
}

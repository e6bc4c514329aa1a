import { getLogger } from "@logtape/logtape";
import { AppError, toAppError } from "../core/errors.ts";
import { shortError } from "../core/short_text.ts";
import { type NodeId, TaskId } from "../core/ids.ts";
import type {
  PrefillEnd,
  PrefillRates,
  PrefillRequest,
  PrefillSource,
  RingFile,
} from "../core/prefill.ts";
import type { State } from "../core/state.ts";
import { runnersOf } from "../core/instance.ts";
import { linkKey, type Telemetry } from "../core/telemetry.ts";
import type { Bulk } from "../net/bulk.ts";
import type { ReceivedStream } from "../net/bulk_thread.ts";
import { encodeQuestion, PREFILL } from "../net/prefill_messages.ts";
import { decodeMessage } from "../net/topics.ts";
import type { Link, Transport } from "../net/transport.ts";
import type { PrefillRings } from "./prefill_rings.ts";
import type { Rank } from "./rank.ts";

const log = getLogger(["exo", "prefill"]);

/** How long the other node may take to say that it will read a prompt. */
export const PREFILL_ANSWER_MS = 5_000;

/** What a node asks others with. */
export interface AskerDeps {
  readonly nodeId: NodeId;
  readonly transport: Pick<Transport, "links" | "request">;
  readonly bulk: Pick<Bulk, "receiveStream">;
  readonly rings: PrefillRings;
  readonly telemetry: () => Pick<Telemetry, "links">;
  readonly newId: () => string;
}

interface Asked {
  readonly rank: Rank;
  ring: RingFile | undefined;
  stream: ReceivedStream | undefined;
  /** Whether the runner has been told where the ring is: it takes its file away then. */
  hasRing: boolean;
  isOver: boolean;
}

/** Has prompts of this node's runners read by others, and brings what comes of it. */
export class PrefillAsker {
  readonly #deps: AskerDeps;
  readonly #asked = new Map<TaskId, Asked>();

  constructor(deps: AskerDeps) {
    this.#deps = deps;
  }

  /** What is known of how fast a source is; undefined: it cannot be reached now. */
  rates(state: State, { instanceId, nodeId }: PrefillSource): PrefillRates | undefined {
    const link = this.#linkTo(nodeId);
    const instance = state.instances.get(instanceId);
    const [runnerId] = instance ? runnersOf(instance) : [];
    if (!link || !runnerId) return undefined;
    const tokensPerSecond = state.runners.get(runnerId)?.prefillTokensPerSecond;
    return { tokensPerSecond, bitsPerSecond: this.#bitsPerSecond(link) };
  }

  /** A runner wants its prompt to be read by `source`; it hears of the end, whatever that is. */
  async ask(
    rank: Rank,
    { taskId, request }: { taskId: TaskId; request: PrefillRequest },
    source: PrefillSource | undefined,
  ): Promise<void> {
    // What it said last: nobody would read the file, or take it away.
    if (rank.stopping) return;
    const begun = { ring: undefined, stream: undefined, hasRing: false, isOver: false };
    const asked: Asked = { rank, ...begun };
    this.#asked.set(taskId, asked);
    rank.awaited.add(taskId);
    try {
      const bytes = await this.#receive(taskId, asked, { request, source });
      this.#tell(taskId, asked, bytes, {});
    } catch (cause) {
      const error = shortError(toAppError(cause, "node_unreachable").toInfo());
      if (asked.isOver) return;
      const { message: reason } = error;
      log.warn("the prompt of {taskId} is read here: {reason}", { taskId, reason });
      this.#tell(taskId, asked, 0, { error });
    } finally {
      this.#forget(taskId, asked);
      this.#leave(asked);
    }
  }

  /** Nobody makes the file any more: if no runner knows of it, or wants it, it goes. */
  #leave({ ring, isOver, hasRing }: Asked): void {
    if (!ring) return;
    const { rings } = this.#deps;
    if (isOver || !hasRing) rings.remove(ring);
    else rings.release(ring);
  }

  /** A runner has taken so many bytes, or wants no more. */
  flow(taskId: TaskId, bytes: number, end: PrefillEnd | undefined): void {
    const asked = this.#asked.get(taskId);
    if (!asked) return;
    asked.stream?.taken(bytes);
    if (!end) return;
    asked.isOver = true;
    asked.stream?.cancel();
    this.#forget(taskId, asked);
  }

  /** The runner is gone. */
  drop(rank: Rank): void {
    for (const [taskId, asked] of this.#asked) if (asked.rank === rank) this.flow(taskId, 0, {});
  }

  async #receive(
    taskId: TaskId,
    asked: Asked,
    { request, source }: { request: PrefillRequest; source: PrefillSource | undefined },
  ): Promise<number> {
    const link = source && this.#linkTo(source.nodeId);
    if (!source || !link) {
      throw new AppError("node_unreachable", "No node is there any more that would read a prompt");
    }
    const { transport, bulk } = this.#deps;
    const body = encodeQuestion(source.instanceId, request);
    const options = { timeoutMs: PREFILL_ANSWER_MS };
    const reply = await transport.request(source.nodeId, PREFILL.protocol, body, options);
    const { offerId } = decodeMessage(PREFILL.reply, reply);
    const arrived = (bytes: number) => this.#tell(taskId, asked, bytes);
    const ring = asked.ring = this.#deps.rings.next(this.#deps.newId());
    const stream = await bulk.receiveStream(link, offerId, { ring, arrived });
    asked.stream = stream;
    if (asked.isOver) stream.cancel();
    return await stream.done;
  }

  #tell(transferId: TaskId, asked: Asked, bytes: number, end?: PrefillEnd): void {
    if (asked.isOver) return;
    const { rank, ring } = asked;
    asked.hasRing ||= bytes > 0;
    rank.process.send({
      ...{ type: "PrefillFlow", transferId, bytes, incarnation: rank.incarnation },
      taskId: TaskId.parse(this.#deps.newId()),
      ...(bytes > 0 ? { ring } : {}),
      ...(end ? { end } : {}),
    });
  }

  #forget(taskId: TaskId, asked: Asked): void {
    if (this.#asked.get(taskId) !== asked) return;
    asked.rank.awaited.delete(taskId);
    // From now on it has to do something.
    asked.rank.watch();
    this.#asked.delete(taskId);
  }

  /** The fastest way to a node, as far as that is measured. */
  #linkTo(nodeId: NodeId): Link | undefined {
    const links = this.#deps.transport.links().filter(({ peer }) => peer === nodeId);
    const speed = (link: Link) => this.#bitsPerSecond(link) ?? 0;
    return links.toSorted((a, b) => speed(b) - speed(a))[0];
  }

  #bitsPerSecond({ peer, address }: Link): number | undefined {
    const edge = { type: "SocketConnection" as const, sinkMultiaddr: address };
    const key = linkKey(this.#deps.nodeId, peer, edge);
    return this.#deps.telemetry().links.get(key)?.bandwidthBitsPerSecond;
  }
}

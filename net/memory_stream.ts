import { AppError } from "../core/errors.ts";
import type { NodeId } from "../core/ids.ts";
import { Channel } from "./channel.ts";
import type { Wire } from "./memory_wire.ts";
import { checkSize } from "./refusals.ts";
import { type MessageStream, STREAM_CREDIT_MESSAGES } from "./transport.ts";

/** One end of a stream in a `MemoryNetwork`. */
export class MemoryStream implements MessageStream {
  readonly peer: NodeId;
  readonly #broken = new AbortController();
  readonly #incoming: Way;
  readonly #outgoing: Way;
  readonly #wire: Wire;
  /** Breaks the other end. */
  #breakOther: (reason: string) => void = () => {};

  private constructor(peer: NodeId, wire: Wire, incoming: Way, outgoing: Way) {
    this.peer = peer;
    this.#wire = wire;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** The two ends of a stream between nodes `a` and `b`, which are at the ends of the wire. */
  static pair(a: NodeId, b: NodeId, wire: Wire): [MemoryStream, MemoryStream] {
    const there = new Way(wire);
    const back = new Way(wire);
    const here = new MemoryStream(b, wire, back, there);
    const far = new MemoryStream(a, wire, there, back);
    here.#breakOther = (reason) => far.#break(reason);
    far.#breakOther = (reason) => here.#break(reason);
    const forget = wire.onBreak((reason) => {
      here.#break(reason);
      far.#break(reason);
    });
    // The wire keeps no streams of the past.
    const over = () => there.isOver && back.isOver && forget();
    there.onOver = over;
    back.onOver = over;
    return [here, far];
  }

  get aborted(): AbortSignal {
    return this.#broken.signal;
  }

  async send(message: Uint8Array): Promise<void> {
    checkSize(message, `a stream to ${this.peer}`);
    if (!this.aborted.aborted && await this.#outgoing.push(message)) return;
    throw new AppError("node_unreachable", `Cannot send to ${this.peer}: the stream has ended`);
  }

  end(): void {
    this.#outgoing.end();
  }

  abort(reason: string): void {
    if (this.#isOver) return;
    this.#break(reason);
    if (this.#wire.isInstant) this.#breakOther(reason);
    else this.#wire.carry(() => this.#breakOther(reason));
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    return this.#incoming.read();
  }

  get #isOver(): boolean {
    return this.#incoming.isOver && this.#outgoing.isOver;
  }

  /** This end learns that the stream is broken: nothing that has not been read is read any more. */
  #break(reason: string): void {
    if (this.#isOver || this.aborted.aborted) return;
    this.#incoming.clear();
    this.#broken.abort(reason);
  }
}

/** A message on its way: it can be read once it has arrived; undefined: it has. */
interface Crossing {
  readonly message: Uint8Array;
  readonly arrived: Promise<void> | undefined;
}

/** One direction of a stream: each message takes its time, and none overtakes another. */
class Way {
  /** Its end has arrived, or is of no interest any more. */
  isOver = false;
  onOver: () => void = () => {};
  readonly #wire: Wire;
  readonly #channel = new Channel<Crossing>(STREAM_CREDIT_MESSAGES);
  /** Whoever waits for something to arrive. */
  readonly #waiting = new Set<() => void>();
  #endArrived: Promise<void> | undefined;
  #isCleared = false;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /** False when the way has ended. */
  push(message: Uint8Array): Promise<boolean> {
    return this.#channel.push({ message, arrived: this.#cross() });
  }

  end(): void {
    if (this.#channel.ended) return;
    this.#channel.end();
    this.#endArrived = this.#cross();
    if (this.#endArrived) void this.#endArrived.then(() => this.#over());
    else this.#over();
  }

  /** Ends at once; what was not read is not read any more. */
  clear(): void {
    this.#isCleared = true;
    this.#channel.clear();
    for (const wake of this.#waiting) wake();
    this.#over();
  }

  async *read(): AsyncGenerator<Uint8Array> {
    for await (const { message, arrived } of this.#channel) {
      if (arrived) await arrived;
      if (this.#isCleared) return;
      yield message;
    }
    await this.#endArrived;
  }

  #cross(): Promise<void> | undefined {
    if (this.#wire.isInstant) return undefined;
    return new Promise((resolve) => {
      this.#waiting.add(resolve);
      this.#wire.carry(() => {
        this.#waiting.delete(resolve);
        resolve();
      });
    });
  }

  #over(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.onOver();
  }
}

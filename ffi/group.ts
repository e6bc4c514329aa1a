/**
 * The ranks of one model over TCP connections of their own: frames that pass round a ring, and sums
 * inside of recorded steps. No array of MLX is touched: joining and waiting happen on other threads.
 *
 * @module
 */
import { check, native } from "./bind.ts";
import { cString, packStrings } from "./strings.ts";

/** What a rank must know to meet the others. */
export interface JoinOptions {
  /** The same on all ranks, and of no other group. */
  readonly groupId: string;
  readonly rank: number;
  readonly size: number;
  /** What the machines are called, by rank. */
  readonly names: readonly string[];
  /** Where the next rank listens. */
  readonly next: { readonly ip: string; readonly port: number };
  /** How long all ranks may take to meet. */
  readonly timeoutMs: number;
}

/** Where a rank listens for the one before it. */
export class GroupListener implements Disposable {
  readonly #id: number;
  /** Where it listens. */
  readonly port: number;
  #joins = false;
  #isOpen = true;

  private constructor(id: number) {
    this.#id = id;
    this.port = check("shim_group_port", native().shim_group_port(id));
  }

  /**
   * Listens at an address of this machine; port 0 takes any.
   * @throws {NativeError} that names the address when that is not possible.
   */
  static bind(ip: string, port: number): GroupListener {
    const id = native().shim_group_listen(cString(ip), port);
    return new GroupListener(check("shim_group_listen", id));
  }

  /**
   * Meets the other ranks: resolves once all of them are connected. Takes the listener over.
   * @throws {GroupError} that names the rank that is missing.
   */
  async join(options: JoinOptions): Promise<NativeGroup> {
    const { groupId, rank, size, names, next, timeoutMs } = options;
    const packed = packStrings(names);
    check(
      "shim_group_prepare",
      native().shim_group_prepare(
        ...[this.#id, cString(groupId), rank, size, packed, packed.length] as const,
        ...[cString(next.ip), next.port, timeoutMs] as const,
      ),
    );
    this.#joins = true;
    try {
      // The message of a failure stays on the thread where it happened, so it is asked for here.
      check("shim_group_join", await native().shim_group_join(this.#id));
      const id = native().shim_group_joined(this.#id);
      return new NativeGroup(check("shim_group_joined", id), { rank, size, names });
    } finally {
      this.#joins = false;
      this[Symbol.dispose]();
    }
  }

  /** Stops listening, and ends a {@linkcode join} that is under way. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    if (this.#joins) {
      check("shim_group_cancel", native().shim_group_cancel(this.#id));
      return; // The join disposes it once it has ended.
    }
    this.#isOpen = false;
    check("shim_group_unlisten", native().shim_group_unlisten(this.#id));
  }
}

/** What has passed through a group. */
export interface GroupCounters {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly framesSent: number;
  /** Time that callers spent waiting for what the rank before sends. */
  readonly waitedMs: number;
}

/** One rank's end of a group. */
export class NativeGroup implements Disposable {
  /** Its number in the shim. */
  readonly id: number;
  readonly rank: number;
  readonly size: number;
  /** What the machines are called, by rank. */
  readonly names: readonly string[];
  #arrival: Promise<void> | undefined;
  #isOpen = true;

  /** Takes over a native group; {@linkcode GroupListener.join} makes them. */
  constructor(id: number, { rank, size, names }: Pick<JoinOptions, "rank" | "size" | "names">) {
    [this.id, this.rank, this.size, this.names] = [id, rank, size, names];
  }

  /**
   * Sends a frame to the next rank: header and body, joined. It is copied, or on its way, when this
   * returns.
   * @throws {GroupError} that names the rank that is gone.
   * @throws {NativeError} when a limit of frames or of what waits to be taken is reached.
   */
  send(header: Uint8Array, body?: Uint8Array): void {
    const [a, b] = [header, body ?? null] as [BufferSource, BufferSource | null];
    const call = native().shim_group_send;
    check("shim_group_send", call(this.id, a, header.length, b, body?.length ?? 0));
  }

  /**
   * The next frame of the rank before; waits for it `ms` at most. Undefined: none came.
   * @throws {GroupError} that names the rank that is gone or silent.
   */
  receive(ms: number): Uint8Array<ArrayBuffer> | undefined {
    const returned = check("shim_group_receive", native().shim_group_receive(this.id, ms));
    if (returned === 0) return undefined;
    const frame = new Uint8Array(returned - 1);
    check("shim_group_take", native().shim_group_take(this.id, frame, frame.length));
    return frame;
  }

  /** Resolves once a frame has come, or the group is broken. All callers share one wait. */
  arrival(): Promise<void> {
    return this.#arrival ??= this.#waitArrival();
  }

  async #waitArrival(): Promise<void> {
    try {
      await native().shim_group_arrival(this.id);
    } finally {
      this.#arrival = undefined;
    }
  }

  /** What has passed so far. */
  counters(): GroupCounters {
    const out = new Float64Array(4);
    check("shim_group_counters", native().shim_group_counters(this.id, out));
    const [bytesSent = 0, bytesReceived = 0, framesSent = 0, waitedMs = 0] = out;
    return { bytesSent, bytesReceived, framesSent, waitedMs };
  }

  /** Leaves the group, which ends it for all, and ends what waits here. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    check("shim_group_leave", native().shim_group_leave(this.id));
  }
}

import { AppError, type ErrorInfo, toAppError } from "../core/errors.ts";
import type { Ring } from "../core/ring.ts";
import type { BulkDoor, BulkOrder, BulkReport, BulkTarget } from "./bulk_messages.ts";

/** What is to be done with a block; its memory goes to another when that is done. */
export type TakeBlock = (block: Uint8Array) => void | Promise<void>;

/** A stream that is being received. */
export interface ReceivedStream {
  /** All its bytes, once the other side has ended. */
  readonly done: Promise<number>;
  /** Whoever empties the ring has taken so many bytes. */
  taken(bytes: number): void;
  cancel(): void;
}

/** An order that was given and not answered yet. */
interface Pending {
  readonly settle: (result: BulkDoor | number) => void;
  readonly fail: (error: AppError) => void;
  readonly take: TakeBlock | undefined;
  /** Blocks are taken one after the other. */
  taken: Promise<void>;
}

/** The worker of bulk transfers as seen from the main thread; it starts when it is first needed. */
export class BulkThread {
  readonly #pending = new Map<number, Pending>();
  readonly #flows = new Map<number, (bytes: number, isOver: boolean) => void>();
  #worker: Worker | undefined;
  #port: MessagePort | undefined;
  #ids = 0;
  #closed = false;
  readonly #script: URL;

  /** `script` takes the orders: it gets the port to speak through as its first message. */
  constructor(script: URL = new URL("./bulk_worker.ts", import.meta.url)) {
    this.#script = script;
  }

  /** Opens the door once; where it is. */
  grant(grant: Omit<Extract<BulkOrder, { type: "Grant" }>, "type" | "id">): Promise<BulkDoor> {
    return this.#ask((id) => ({ type: "Grant", id, ...grant })) as Promise<BulkDoor>;
  }

  /** Bits per second. */
  measure(target: BulkTarget): Promise<number> {
    return this.#ask((id) => ({ type: "Measure", id, target })) as Promise<number>;
  }

  /** Bytes received. */
  async receive(
    target: BulkTarget,
    into: string | TakeBlock,
    signal?: AbortSignal,
  ): Promise<number> {
    const [path, take] = typeof into === "string" ? [into, undefined] : [undefined, into];
    let id = 0;
    const received = this.#ask((next) => ({ type: "Receive", id: id = next, target, path }), take);
    const cancel = () => this.#tell({ type: "Cancel", id });
    signal?.addEventListener("abort", cancel);
    if (signal?.aborted) cancel();
    try {
      return await received as number;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /**
   * Receives a stream into a ring file that another process empties; `arrived` hears how many bytes
   * are there.
   */
  receiveStream(target: BulkTarget, ring: Ring, arrived: (bytes: number) => void): ReceivedStream {
    let id = 0;
    const done = this.#ask((next) => {
      this.#flows.set(id = next, arrived);
      return { type: "ReceiveStream", id, target, ring };
    }).finally(() => this.#flows.delete(id));
    return {
      done: done as Promise<number>,
      taken: (bytes) => this.#tell({ type: "Flow", id, bytes }),
      cancel: () => this.#tell({ type: "Cancel", id }),
    };
  }

  /** The number of a stream to be sent, for the purpose of a grant; `sent` hears how far it is. */
  addStream(sent: (bytes: number, isOver: boolean) => void): number {
    if (this.#closed) throw stopping();
    // What is written before anybody comes for it must not be lost.
    if (!this.#port) this.#start();
    const id = ++this.#ids;
    this.#flows.set(id, sent);
    return id;
  }

  /** So many bytes of a stream to be sent are in its ring. */
  written(streamId: number, bytes: number, end?: "done"): void {
    this.#tell({ type: "Flow", id: streamId, bytes, end });
  }

  /** No more of a stream comes, and what has come is of no use. */
  break(streamId: number, error?: ErrorInfo): void {
    this.#tell({ type: "Flow", id: streamId, bytes: 0, end: "broken", error });
    this.#flows.delete(streamId);
  }

  /** Ends the thread, and with it every socket. */
  close(): void {
    this.#closed = true;
    this.#end(stopping());
  }

  async #ask(order: (id: number) => BulkOrder, take?: TakeBlock): Promise<BulkDoor | number> {
    if (this.#closed) throw stopping();
    if (!this.#port) this.#start();
    const id = ++this.#ids;
    return await new Promise((settle, fail) => {
      this.#pending.set(id, { settle, fail, take, taken: Promise.resolve() });
      this.#tell(order(id));
    });
  }

  #start(): void {
    const worker = new Worker(this.#script, { type: "module" });
    const { port1, port2 } = new MessageChannel();
    worker.onerror = (event) => {
      // Unheard, it would take the node along.
      event.preventDefault();
      this.#end(new AppError("internal", `The thread of bulk transfers died: ${event.message}`));
    };
    port1.onmessage = ({ data }: MessageEvent<BulkReport>) => this.#hear(data);
    worker.postMessage(port2, [port2]);
    [this.#worker, this.#port] = [worker, port1];
  }

  #tell(order: BulkOrder, transfer: Transferable[] = []): void {
    this.#port?.postMessage(order, transfer);
  }

  #hear(report: BulkReport): void {
    const { id } = report;
    if (report.type === "Flow") return this.#hearFlow(report);
    const pending = this.#pending.get(id);
    if (!pending) return;
    if (report.type === "Block") return this.#takeBlock(id, pending, report.bytes);
    if (report.type === "Failed") return this.#fail(id, AppError.from(report.error));
    // Not before the last block was taken.
    void pending.taken.then(() => {
      if (this.#pending.delete(id)) pending.settle(report.result);
    });
  }

  #hearFlow({ id, bytes, isOver = false }: Extract<BulkReport, { type: "Flow" }>): void {
    this.#flows.get(id)?.(bytes, isOver);
    if (isOver) this.#flows.delete(id);
  }

  #takeBlock(id: number, pending: Pending, block: Uint8Array<ArrayBuffer>): void {
    pending.taken = pending.taken.then(async () => {
      if (!this.#pending.has(id)) return;
      try {
        await pending.take?.(block);
        this.#tell({ type: "Taken", id, buffer: block.buffer }, [block.buffer]);
      } catch (cause) {
        this.#tell({ type: "Cancel", id });
        this.#fail(id, toAppError(cause));
      }
    });
  }

  #fail(id: number, error: AppError): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.fail(error);
  }

  #end(error: AppError): void {
    this.#worker?.terminate();
    this.#port?.close();
    [this.#worker, this.#port] = [undefined, undefined];
    for (const id of this.#pending.keys()) this.#fail(id, error);
    // With the thread go the connections that streams are sent over.
    for (const flow of this.#flows.values()) flow(0, true);
    this.#flows.clear();
  }
}

function stopping(): AppError {
  return new AppError("not_ready", "The node is stopping", {
    hint: "start it again with exo serve, or ask another node",
  });
}

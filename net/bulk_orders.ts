import { toAppError } from "../core/errors.ts";
import { type BlockSink, dialBulk, measure, receiveBytes } from "./bulk_dial.ts";
import { BulkListener } from "./bulk_listener.ts";
import {
  BLOCK_BYTES,
  BLOCKS_WAITING_MAX,
  type BulkDoor,
  type BulkOrder,
  type BulkReport,
  type BulkTarget,
  CONNECT_TIMEOUT_MS,
  GRANT_LIFETIME_MS,
} from "./bulk_messages.ts";
import { receiveRing, RingFlow } from "./bulk_stream.ts";

type OrderOf<T extends BulkOrder["type"]> = Extract<BulkOrder, { type: T }>;

/** A transfer that this node has asked for. */
interface Running {
  readonly abort: AbortController;
  /** Memory of blocks that the main thread has read. */
  readonly free: ArrayBuffer[];
  /** Called when there is more of it, or the transfer is cancelled. */
  wake: () => void;
}

/** Does what the front of bulk transfers asks for through `port`, each order to its end. */
export function serveBulkOrders(port: MessagePort): void {
  const orders = new BulkOrders((report, transfer) => port.postMessage(report, transfer));
  port.onmessage = ({ data }: MessageEvent<BulkOrder>) => orders.take(data);
}

class BulkOrders {
  readonly #tell: (report: BulkReport, transfer: Transferable[]) => void;
  readonly #running = new Map<number, Running>();
  #listener: Promise<BulkListener> | undefined;
  /** Of streams that are sent by the node's numbers, of those that are received by their orders'. */
  readonly #flows = new Map<number, RingFlow>();

  constructor(tell: (report: BulkReport, transfer: Transferable[]) => void) {
    this.#tell = tell;
  }

  take(order: BulkOrder): void {
    switch (order.type) {
      case "Grant":
        return void this.#answer(order.id, this.#grant(order));
      case "Receive":
        return void this.#answer(order.id, this.#receive(order));
      case "ReceiveStream":
        return void this.#answer(order.id, this.#receiveStream(order));
      case "Flow": {
        this.#flowOf(order.id).note(order.bytes, order.end, order.error);
        if (order.end === "broken") this.#forgetLater(order.id);
        return;
      }
      case "Measure":
        return void this.#answer(order.id, this.#measure(order));
      case "Taken": {
        const running = this.#running.get(order.id);
        running?.free.push(order.buffer);
        return running?.wake();
      }
      case "Cancel": {
        const running = this.#running.get(order.id);
        running?.abort.abort();
        this.#flows.get(order.id)?.note(0, "broken");
        return running?.wake();
      }
      default:
        return order satisfies never;
    }
  }

  async #answer(id: number, work: Promise<BulkDoor | number>): Promise<void> {
    try {
      this.#tell({ type: "Done", id, result: await work }, []);
    } catch (cause) {
      this.#tell({ type: "Failed", id, error: toAppError(cause).toInfo() }, []);
    }
  }

  async #grant(order: OrderOf<"Grant">): Promise<BulkDoor> {
    this.#listener ??= BulkListener.open({
      flowOf: (streamId) => this.#flowOf(streamId),
      sent: (id, bytes, isOver) => this.#sent(id, bytes, isOver),
    });
    try {
      return (await this.#listener).grant(order);
    } catch (cause) {
      // A machine that had no port or descriptor left may have one the next time.
      await this.#listener.catch(() => this.#listener = undefined);
      throw cause;
    }
  }

  /** Whoever has a token for it may still come, and is to hear that it is broken. */
  #forgetLater(id: number): void {
    setTimeout(() => this.#flows.delete(id), GRANT_LIFETIME_MS + CONNECT_TIMEOUT_MS);
  }

  #flowOf(id: number): RingFlow {
    const flow = this.#flows.get(id) ?? new RingFlow();
    this.#flows.set(id, flow);
    return flow;
  }

  #sent(id: number, bytes: number, isOver: boolean): void {
    if (isOver) this.#flows.delete(id);
    this.#tell({ type: "Flow", id, bytes, isOver }, []);
  }

  async #receiveStream({ id, target, ring }: OrderOf<"ReceiveStream">): Promise<number> {
    const flow = this.#flowOf(id);
    const tell = (bytes: number) => this.#tell({ type: "Flow", id, bytes }, []);
    try {
      return await this.#dialled(id, target, (socket) => receiveRing(socket, ring, { flow, tell }));
    } finally {
      this.#flows.delete(id);
    }
  }

  #measure({ id, target }: OrderOf<"Measure">): Promise<number> {
    return this.#dialled(id, target, (socket) => measure(socket));
  }

  #receive({ id, target, path }: OrderOf<"Receive">): Promise<number> {
    const { bytes } = target.grant;
    return this.#dialled(id, target, async (socket, running) => {
      const wait = () => new Promise<void>((resolve) => running.wake = resolve);
      if (path === undefined) {
        return await receiveBytes(socket, bytes, this.#toMain(id, running, wait));
      }
      return await toFile(path, (sink) => receiveBytes(socket, bytes, sink));
    });
  }

  async #dialled(
    id: number,
    target: BulkTarget,
    use: (socket: Awaited<ReturnType<typeof dialBulk>>, running: Running) => Promise<number>,
  ): Promise<number> {
    const running: Running = { abort: new AbortController(), free: [], wake: () => {} };
    this.#running.set(id, running);
    try {
      using socket = await dialBulk(target, running.abort.signal);
      return await use(socket, running);
    } finally {
      this.#running.delete(id);
    }
  }

  /** Few pieces of memory go round and round: what is made anew for each block must be freed, too. */
  #toMain(id: number, { abort, free }: Running, wait: () => Promise<void>): BlockSink {
    let made = 0;
    return {
      room: async () => {
        while (free.length === 0 && made >= BLOCKS_WAITING_MAX && !abort.signal.aborted) {
          await wait();
        }
        const buffer = free.pop();
        if (buffer) return new Uint8Array(buffer);
        made++;
        return new Uint8Array(BLOCK_BYTES);
      },
      take: (bytes) => {
        this.#tell({ type: "Block", id, bytes }, [bytes.buffer]);
        return Promise.resolve();
      },
    };
  }
}

/** A file is whole or not there: one that broke off is removed. */
async function toFile(
  path: string,
  receive: (sink: BlockSink) => Promise<number>,
): Promise<number> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const buffer = new Uint8Array(BLOCK_BYTES);
  const take = async (block: Uint8Array) => {
    for (let at = 0; at < block.length;) at += await file.write(block.subarray(at));
  };
  try {
    return await receive({ room: () => Promise.resolve(buffer), take });
  } catch (cause) {
    await Deno.remove(path).catch(() => {});
    throw cause;
  }
}

/** The thread of bulk transfers by itself: the test stands where the main thread does. */
import assert from "node:assert/strict";
import {
  BLOCK_BYTES,
  BLOCKS_WAITING_MAX,
  type BulkDoor,
  type BulkOrder,
  type BulkReport,
  type BulkTarget,
} from "../../net/bulk_messages.ts";
import { TempDir } from "../support/temp_dir.ts";

const BLOCKS = 5 * BLOCKS_WAITING_MAX;

class Thread implements Disposable {
  readonly blocks: Uint8Array[] = [];
  readonly hasBlock = Promise.withResolvers<void>();
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #waiting = new Map<number, (report: BulkReport) => void>();
  #tokens = 0;

  constructor() {
    const url = new URL("../../net/bulk_worker.ts", import.meta.url);
    this.#worker = new Worker(url, { type: "module" });
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage(port2, [port2]);
    this.#port = port1;
    port1.onmessage = ({ data }: MessageEvent<BulkReport>) => {
      if (data.type === "Block") {
        this.blocks.push(data.bytes);
        this.hasBlock.resolve();
      } else this.#waiting.get(data.id)?.(data);
    };
  }

  tell(order: BulkOrder): void {
    this.#port.postMessage(order);
  }

  /** What the order comes to. */
  ask(order: BulkOrder & { id: number }): Promise<BulkReport> {
    this.tell(order);
    return new Promise((resolve) => this.#waiting.set(order.id, resolve));
  }

  /** Where all blocks can be had once. */
  async target(id: number): Promise<BulkTarget> {
    const bytes = new Uint8Array(BLOCKS * BLOCK_BYTES);
    const token = String(++this.#tokens).padStart(36, "-");
    const purpose = {
      type: "Send",
      source: { type: "Memory", bytes },
      bytes: bytes.length,
    } as const;
    const grant = { type: "Grant", id, peer: "b", token, lifetimeMs: 10_000, purpose } as const;
    const report = await this.ask(grant);
    assert.equal(report.type, "Done");
    const door = (report as { result: BulkDoor }).result;
    return { host: "127.0.0.1", grant: { ...door, token, bytes: bytes.length } };
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
    this.#port.close();
  }
}

Deno.test("whoever does not take blocks gets a few, and holds back who sends them", async () => {
  using thread = new Thread();
  await using dir = await TempDir.make();
  const received = thread.ask({ type: "Receive", id: 1, target: await thread.target(2) });
  await thread.hasBlock.promise;
  // As many bytes go another way meanwhile: there was time to send them all.
  const path = `${dir.path}/to`;
  await thread.ask({ type: "Receive", id: 3, target: await thread.target(4), path });
  assert.equal(thread.blocks.length, BLOCKS_WAITING_MAX);
  for (let taken = 0; taken < BLOCKS; taken++) {
    thread.tell({ type: "Taken", id: 1, buffer: new ArrayBuffer(BLOCK_BYTES) });
  }
  assert.deepEqual(await received, { type: "Done", id: 1, result: BLOCKS * BLOCK_BYTES });
  assert.equal(thread.blocks.length, BLOCKS);
});

/** What another instance sends that it should not, and folders that are full. */
import assert from "node:assert/strict";
import { encodeFrame } from "../../../core/frame_codec.ts";
import { FRAME_BYTES_MAX } from "../../../core/frames.ts";
import { TaskId } from "../../../core/ids.ts";
import type { PrefillEnd, PrefillRecord, PrefillRequest } from "../../../core/prefill.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import type { TaskResponse } from "../../../engines/engine.ts";
import { RingWriter } from "../../../engines/prefill/ring_file.ts";
import type { TextEngine } from "../../../engines/text_engine.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { answeredAlone, longPrompt, prefillEngine } from "../../support/prefill_engines.ts";
import { ask } from "../../support/test_node.ts";

await ensureSetup();

const ASKED = TaskId.parse("asked");

/** A folder, and an engine that has asked another for its prompt. */
class World implements Disposable {
  readonly #dir = Deno.makeTempDirSync();
  readonly decode = prefillEngine();
  readonly payload = longPrompt("once");
  #rings = 0;

  /** What it asks for. */
  begin(): PrefillRequest {
    this.decode.submit({ taskId: ASKED, payload: this.payload, prefill: {} });
    const [first] = [...this.decode.step()];
    assert.ok(first?.[1].type === "prefillWanted");
    return first[1].request;
  }

  ring(bytes = RING_BYTES_MIN) {
    return { path: `${this.#dir}/${this.#rings++}`, bytes };
  }

  /** Answers it. */
  send(records: readonly PrefillRecord[], ringBytes?: number): void {
    const ring = this.ring(ringBytes);
    using writer = new RingWriter(ring);
    for (const record of records) writer.write(encodeFrame(record));
    this.decode.prefills?.flow(ASKED, { bytes: writer.written, ring });
  }

  [Symbol.dispose](): void {
    this.decode.close();
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

/** All that an engine says until it has nothing to do. */
function responsesOf(engine: TextEngine): TaskResponse[] {
  const all: TaskResponse[] = [];
  while (engine.hasWork()) all.push(...engine.step());
  return all;
}

function endOf(responses: readonly TaskResponse[]): PrefillEnd | undefined {
  return responses.flatMap(([, one]) => one.type === "prefillFlow" && one.end ? [one.end] : [])[0];
}

/** No write reaches a file while `run` runs. */
function onFullDisk<T>(run: () => T): T {
  const write = Deno.FsFile.prototype.writeSync;
  Deno.FsFile.prototype.writeSync = () => {
    throw new Error("No space left on device (os error 28)");
  };
  try {
    return run();
  } finally {
    Deno.FsFile.prototype.writeSync = write;
  }
}

Deno.test("blocks without their bytes are refused, and the tokens are the same", () => {
  using world = new World();
  const { decode, payload } = world;
  // Another prompt's blocks come first, so that memory which is not written is not zeros.
  decode.submit({ taskId: TaskId.parse("before"), payload: longPrompt("another") });
  responsesOf(decode);
  decode.clearPrefixCache();
  const { fingerprint, startPos, stopPos } = world.begin();
  const count = stopPos / fingerprint.blockPositions;
  world.send([
    { type: "Header", fingerprint, positions: [startPos, stopPos], layers: [0, 2] },
    ...fingerprint.layers.map((_, layer) => ({ type: "Blocks" as const, layer, first: 0, count })),
    { type: "Done", stopPos },
  ]);
  const responses = responsesOf(decode);
  assert.match(endOf(responses)?.error?.message ?? "", /blocks of layer 0 have 0 bytes/);
  const ids = responses.flatMap(([, one]) =>
    one.type === "chunk" && one.chunk.type === "Token" ? [one.chunk.tokenId] : []
  );
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("a last word as long as a frame can be told to the node", () => {
  using world = new World();
  world.begin();
  const message = "x".repeat(FRAME_BYTES_MAX - 100);
  const error = { code: "internal" as const, message };
  world.send([{ type: "Failed", error }], 2 * FRAME_BYTES_MAX);
  const { message: told } = endOf([...world.decode.step()])?.error ?? assert.fail("it has ended");
  assert.match(told, /^x{1999}…$/);
});

Deno.test("where a ring's folder is full, its prompt alone is given up, and the node is told", () => {
  using world = new World();
  const prefill = prefillEngine();
  const [transfer, own] = [TaskId.parse("transfer"), TaskId.parse("own")];
  const request = world.begin();
  prefill.prefills?.serve({ taskId: transfer, request, ring: world.ring() });
  prefill.submit({ taskId: own, payload: ask("hi", { maxTokens: 2 }) });
  const responses = onFullDisk(() => responsesOf(prefill));
  const finished = responses.flatMap(([id, { type }]) => type === "finished" ? [id] : []);
  assert.deepEqual(finished.toSorted(), [own, transfer]);
  assert.equal(endOf(responses)?.error?.code, "storage_failed");
  prefill.close();
});

Deno.test("where a ring's folder is full already, the prompt is refused, and no file is left", () => {
  using world = new World();
  const prefill = prefillEngine();
  const request = world.begin();
  const ring = world.ring();
  const serve = () => prefill.prefills?.serve({ taskId: TaskId.parse("t"), request, ring });
  assert.throws(() => onFullDisk(serve), { code: "storage_failed" });
  assert.throws(() => Deno.statSync(ring.path), Deno.errors.NotFound);
  serve();
  prefill.close();
});

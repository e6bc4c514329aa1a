/** How much of a group's ring the prompts of others take at once: steps wait behind it. */
import assert from "node:assert/strict";
import type { PrefillRequest } from "../../../core/prefill.ts";
import { TaskId } from "../../../core/ids.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import type { KvBlock } from "../../../engines/decoder.ts";
import { BYTES_UNDER_WAY_MAX, BytesUnderWay } from "../../../engines/prefill/bytes_under_way.ts";
import type { KvBytes } from "../../../engines/prefill/kv_bytes.ts";
import { SERVED_PREFILLS_MAX, ServedPrefills } from "../../../engines/prefill/served_prefills.ts";
import type { Run } from "../../../engines/text/run.ts";
import { TempDir } from "../../support/temp_dir.ts";

Deno.test("BytesUnderWay has room for what is too large, once nothing else is there", () => {
  const underWay = new BytesUnderWay();
  assert.ok(underWay.hasRoom(2 * BYTES_UNDER_WAY_MAX));
  underWay.setOut(1);
  assert.ok(underWay.hasRoom(BYTES_UNDER_WAY_MAX - 1));
  assert.ok(!underWay.hasRoom(BYTES_UNDER_WAY_MAX));
  underWay.arrived(1);
  assert.ok(underWay.hasRoom(2 * BYTES_UNDER_WAY_MAX));
});

const LAYER = { kvHeads: 8, keyDim: 128, valueDim: 128 };
const SHAPE = {
  ...{ layout: "l", kvType: "float16", blockPositions: 32 } as const,
  layers: Array.from({ length: 32 }, () => LAYER),
};
const BLOCK_BYTES = 8 * 256 * 2 * 32;
const STOP_POS = 2048;

Deno.test("all prompts together have so many bytes on their way from other ranks, not each", async () => {
  await using dir = await TempDir.make();
  const bytesOf = new Map<object, number>();
  let isThere = false;
  const total = () => [...bytesOf.values()].reduce((sum, bytes) => sum + bytes, 0);
  const kv = {
    shape: SHAPE,
    layerBytes: () => BLOCK_BYTES,
    read: (_: number, blocks: readonly KvBlock[]) => {
      const bytes = blocks.length * BLOCK_BYTES;
      const over = () => bytesOf.delete(pending);
      const collect = () => over() && new Uint8Array(bytes);
      const pending = { wait: () => isThere, collect, [Symbol.dispose]: over };
      bytesOf.set(pending, bytes);
      assert.ok(total() <= BYTES_UNDER_WAY_MAX, `${total() / 2 ** 20} MiB under way`);
      return pending;
    },
  } as unknown as KvBytes;
  const fingerprint = { weights: "w", ...SHAPE };
  using served = new ServedPrefills({ kv, fingerprint });
  const tokenIds = Array.from({ length: STOP_POS + 1 }, () => 0);
  const request: PrefillRequest = { tokenIds, startPos: 0, stopPos: STOP_POS, fingerprint };
  const cache = { share: () => ({ ownBytes: 0, [Symbol.dispose]: () => {} }) };
  const generation = { cache, computedPositions: STOP_POS };
  const ids = Array.from({ length: SERVED_PREFILLS_MAX }, (_, i) => TaskId.parse(`t${i}`));
  for (const taskId of ids) {
    served.open({
      taskId,
      request,
      ring: { path: `${dir.path}/${taskId}`, bytes: RING_BYTES_MIN },
    });
    served.note({ taskId, generation } as unknown as Run);
  }
  const pump = () => served.pump((_, error) => assert.fail(error));
  pump();
  assert.equal(total(), BYTES_UNDER_WAY_MAX, "what there is room for is used");
  // Whoever is gone leaves its room to the others, and so do bytes that have come.
  for (const taskId of ids.slice(0, 2)) {
    served.drop(taskId);
    pump();
    assert.equal(total(), BYTES_UNDER_WAY_MAX);
  }
  isThere = true;
  const news = new Set(pump().map(([taskId]) => taskId));
  assert.deepEqual([...news], ids.slice(2), "all of them go on");
  assert.equal(total(), 0);
});

import assert from "node:assert/strict";
import { lagDuring } from "../../bench/bulk/lag.ts";
import { streamTransfer } from "../../bench/bulk/stream.ts";
import { bulkTransfers } from "../../bench/bulk/transfers.ts";
import { TempDir } from "../support/temp_dir.ts";

const MIB = 1024 * 1024;

Deno.test("a thread that is busy shows as lag", async () => {
  const lagMs = await lagDuring(() => {
    const until = performance.now() + 30;
    while (performance.now() < until);
    return Promise.resolve();
  });
  assert.ok(lagMs >= 25, `${lagMs} ms`);
});

Deno.test("every way of bytes from node to node can be measured", async () => {
  await using dir = await TempDir.make();
  const { transfers, measuredBitsPerSecond } = await bulkTransfers(dir.path, 4 * MIB);
  const stream = await streamTransfer(MIB);
  for (const { bytesPerSecond, lagMs } of [...Object.values(transfers), stream]) {
    assert.ok(bytesPerSecond > 0 && Number.isFinite(bytesPerSecond), `${bytesPerSecond}`);
    assert.ok(lagMs >= 0, `${lagMs}`);
  }
  assert.ok(measuredBitsPerSecond > 0);
});

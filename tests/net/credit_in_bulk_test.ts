import type { Stream } from "@libp2p/interface";
import assert from "node:assert/strict";
import { creditInBulk } from "../../net/credit_in_bulk.ts";

Deno.test("the writer is told of room once half of the window is used up", () => {
  const stream = {
    recvWindow: 100,
    recvWindowCapacity: 100,
    updates: 0,
    sendWindowUpdate() {
      this.updates++;
      this.recvWindowCapacity = this.recvWindow;
    },
  };
  creditInBulk(stream as unknown as Stream);
  for (const [used, updates] of [[49, 0], [1, 1], [50, 2], [10, 2], [90, 3]] as const) {
    stream.recvWindowCapacity -= used;
    stream.sendWindowUpdate();
    assert.equal(stream.updates, updates, `after ${used}`);
  }
});

Deno.test("a stream of another muxer stays as it is", () => {
  const stream = { recvWindow: 1, sendWindowUpdate: () => {} };
  const { sendWindowUpdate } = stream;
  creditInBulk(stream as unknown as Stream);
  assert.equal(stream.sendWindowUpdate, sendWindowUpdate);
});

import assert from "node:assert/strict";
import { BulkThread } from "../../net/bulk_thread.ts";

const TARGET = {
  host: "127.0.0.1",
  grant: { port: 1, certificatePem: "", token: "", bytes: 0 },
};

/** A thread that counts its starts in its answers and dies of the second order. */
const MORTAL = new URL(
  `data:text/javascript,${
    encodeURIComponent(`addEventListener("message", ({ data: port }) => {
    let orders = 0;
    port.onmessage = ({ data: { id } }) => {
      if (++orders === 2) throw new Error("struck");
      port.postMessage({ type: "Done", id, result: orders });
    };
  });`)
  }`,
);

Deno.test("a thread that dies fails what was under way, and the next order starts another", async () => {
  const thread = new BulkThread(MORTAL);
  assert.equal(await thread.measure(TARGET), 1);
  await assert.rejects(thread.measure(TARGET), {
    code: "internal",
    message: /The thread of bulk transfers died: .*struck/,
  });
  assert.equal(await thread.measure(TARGET), 1);
  thread.close();
  await assert.rejects(thread.measure(TARGET), { code: "not_ready" });
});

import assert from "node:assert/strict";
import { newCertificate } from "../../net/bulk_certificate.ts";
import { BULK_SERVER_NAME } from "../../net/bulk_messages.ts";
import { BulkSocket } from "../../net/bulk_socket.ts";
import { within } from "../support/eventually.ts";

/** Both ends of a connection. */
async function ends(idleTimeoutMs?: number) {
  const { certificatePem, keyPem } = await newCertificate();
  using listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    cert: certificatePem,
    key: keyPem,
  });
  const { port } = listener.addr;
  const [there, here] = await Promise.all([
    listener.accept(),
    Deno.connect({ hostname: "127.0.0.1", port }).then(async (tcp) => {
      const options = { hostname: BULK_SERVER_NAME, caCerts: [certificatePem] };
      const tls = await Deno.startTls(tcp, options);
      await tls.handshake();
      return tls;
    }),
  ]);
  const sockets = [new BulkSocket(here, idleTimeoutMs), new BulkSocket(there, idleTimeoutMs)];
  return sockets as [BulkSocket, BulkSocket];
}

Deno.test("what one side sends the other reads, up to its end", async () => {
  const [a, b] = await ends();
  using _a = a;
  using _b = b;
  const bytes = Uint8Array.from({ length: 1_000_000 }, (_, at) => at % 251);
  const sent = a.writeAll(bytes).then(() => a.end());
  const read = new Uint8Array(bytes.length);
  assert.equal(await b.readAll(read), true);
  assert.deepEqual(read, bytes);
  await sent;
  assert.equal(await b.readAll(new Uint8Array(1)), false);
});

Deno.test("an end in the middle of what was to be read is a failure", async () => {
  const [a, b] = await ends();
  using _a = a;
  using _b = b;
  await a.writeAll(new Uint8Array(3));
  await a.end();
  await assert.rejects(b.readAll(new Uint8Array(5)), {
    code: "node_unreachable",
    message: /ended after 3 of 5 bytes/,
  });
});

Deno.test("a connection on which nothing moves is given up", async () => {
  const [a, b] = await ends(40);
  using _a = a;
  using _b = b;
  const read = within("the limit", b.readAll(new Uint8Array(1)), 5_000);
  await assert.rejects(read, { code: "timed_out", message: /nothing has moved for 0.04 s/ });
});

Deno.test("what has a limit of its own is given up although bytes move", async () => {
  const [a, b] = await ends();
  using _a = a;
  using _b = b;
  b.within(50, "a test");
  const reads = (async () => {
    for (const one = new Uint8Array(1);;) {
      await a.writeAll(one);
      await b.readAll(one);
    }
  })();
  const late = within("the limit", reads, 5_000);
  await assert.rejects(late, { code: "timed_out", message: /a test took over 0.05 s/ });
});

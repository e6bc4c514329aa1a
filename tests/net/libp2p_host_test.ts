import type { Stream } from "@libp2p/interface";
import assert from "node:assert/strict";
import { newIdentity, nodeIdOf } from "../../net/identity.ts";
import { type Host, startHost } from "../../net/libp2p_host.ts";
import { silentLogger } from "../../net/libp2p_logger.ts";
import { eventually } from "../support/eventually.ts";

const logger = silentLogger();

Deno.test("a port that is taken is passed over for the next that is free", async () => {
  const identityKey = await newIdentity();
  using taken = Deno.listen({ hostname: "0.0.0.0", port: 0 });
  const { host, port } = await startHost({ identityKey, port: taken.addr.port, logger });
  try {
    assert.ok(port > taken.addr.port && port < taken.addr.port + 64, `${port}`);
    assert.equal(host.peerId.toString(), nodeIdOf(identityKey));
    assert.ok(host.getMultiaddrs().every((one) => one.toString().includes(`/tcp/${port}`)));
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    connection.close();
  } finally {
    await host.stop();
  }
});

Deno.test("where no port is free it says so, and what to do", async () => {
  const identityKey = await newIdentity();
  await assert.rejects(startHost({ identityKey, port: 65_536, logger }), {
    code: "conflict",
    message: /64 ports from 65536 on are taken/,
    hint: /--libp2p-port/,
  });
});

Deno.test("a stream over a long way that is paused keeps what comes, and goes on", async () => {
  const hosts = await Promise.all(
    [1, 2].map(async () =>
      (await startHost({ identityKey: await newIdentity(), port: 0, logger })).host
    ),
  ) as [Host, Host];
  const [from, to] = hosts;
  try {
    const taken = Promise.withResolvers<Stream>();
    await to.handle("/slow", (stream) => taken.resolve(stream));
    const [address] = to.getMultiaddrs();
    assert.ok(address);
    const here = await from.dialProtocol(address, "/slow");
    const there = await taken.promise;
    // As if each round trip took so long: then the window grows as far as it may.
    Object.assign(there, { getRTT: () => 60_000 });
    let readBytes = 0;
    there.addEventListener("message", ({ data }) => {
      readBytes += data.byteLength;
      if (readBytes === WARM_BYTES) there.pause();
    });
    send(here, WARM_BYTES);
    await eventually("the window has grown", () => readBytes === WARM_BYTES);
    send(here, MORE_BYTES);
    const held = () => there.readBufferLength;
    let before = -1;
    await eventually("no more comes", () => held() > 0 && before === (before = held()));
    assert.equal(there.status, "open");
    there.resume();
    await eventually("all has come", () => readBytes === WARM_BYTES + MORE_BYTES);
  } finally {
    await Promise.all(hosts.map((host) => host.stop()));
  }
});

/** Enough for a window to grow to its limit, and more than any limit. */
const [WARM_BYTES, MORE_BYTES] = [64 * 1024 * 1024, 32 * 1024 * 1024];

function send(stream: Stream, bytes: number): void {
  for (let sent = 0; sent < bytes; sent += 1024 * 1024) stream.send(new Uint8Array(1024 * 1024));
}

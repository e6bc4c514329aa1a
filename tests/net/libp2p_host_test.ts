import assert from "node:assert/strict";
import { newIdentity, nodeIdOf } from "../../net/identity.ts";
import { startHost } from "../../net/libp2p_host.ts";
import { silentLogger } from "../../net/libp2p_logger.ts";

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

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { bootstrapAddresses, bootstrapMultiaddr } from "../../net/bootstrap_address.ts";

Deno.test("bootstrapMultiaddr() reads host:port, hosts alone and multiaddrs", () => {
  const peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
  const cases: Readonly<Record<string, string>> = {
    "10.0.0.2:52415": "/ip4/10.0.0.2/tcp/52415",
    "10.0.0.2": "/ip4/10.0.0.2/tcp/52414",
    "[fd00::1]:4001": "/ip6/fd00::1/tcp/4001",
    "[::1]": "/ip6/::1/tcp/52414",
    "mini.local:52414": "/dns/mini.local/tcp/52414",
    "mac-mini": "/dns/mac-mini/tcp/52414",
    "/ip4/10.0.0.2/tcp/52414": "/ip4/10.0.0.2/tcp/52414",
    [`/dns4/mini.local/tcp/1/p2p/${peer}`]: `/dns4/mini.local/tcp/1/p2p/${peer}`,
  };
  for (const [text, multiaddr] of Object.entries(cases)) {
    equal(bootstrapMultiaddr(text), multiaddr, text);
  }
});

Deno.test("bootstrapMultiaddr() refuses what leads to no port", () => {
  const wrong = [
    "",
    "10.0.0.256",
    "10.0.0.2:0",
    "10.0.0.2:65536",
    "10.0.0.2:",
    "fd00::1:52414",
    "two words",
    "http://10.0.0.2:52415",
    "-mini",
    "/ip4/10.0.0.2",
    "/ip4/10.0.0.2/udp/52414/quic-v1",
    "/ip4/10.0.0.2/tcp/0",
  ];
  for (const text of wrong) {
    const needed = text.startsWith("/") ? "a multiaddr with" : "host:port or a multiaddr needed";
    throws(
      () => bootstrapMultiaddr(text),
      ({ code, message }) =>
        code === "usage" &&
        message.startsWith(`Cannot look for nodes at "${text}": ${needed}`),
      text,
    );
  }
});

Deno.test("bootstrapAddresses() are IP addresses without ids, and none of a name that nobody has", async () => {
  const peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
  deepEqual(await bootstrapAddresses(`/ip4/10.0.0.2/tcp/1/p2p/${peer}`), ["/ip4/10.0.0.2/tcp/1"]);
  deepEqual(await bootstrapAddresses("/ip6/fd00::1/tcp/1"), ["/ip6/fd00::1/tcp/1"]);
  const local = await bootstrapAddresses(`/dns/localhost/tcp/1/p2p/${peer}`);
  ok(local.every((one) => ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"].includes(one)), `${local}`);
  ok(local.length > 0);
  deepEqual(await bootstrapAddresses("/dns4/localhost/tcp/1"), ["/ip4/127.0.0.1/tcp/1"]);
  deepEqual(await bootstrapAddresses("/dns/nobody.invalid/tcp/1"), []);
});

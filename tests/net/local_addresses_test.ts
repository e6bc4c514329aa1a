import assert from "node:assert/strict";
import { ADDRESSES_MAX } from "../../net/link_frames.ts";
import { type InterfaceAddress, localAddresses, readHostId } from "../../net/local_addresses.ts";

const LOOPBACK: InterfaceAddress[] = [
  { name: "lo", family: "IPv4", address: "127.0.0.1" },
  { name: "lo", family: "IPv6", address: "::1" },
];

Deno.test("outer addresses come first, IPv6 only where there is no IPv4", () => {
  const interfaces: InterfaceAddress[] = [
    ...LOOPBACK,
    { name: "eth0", family: "IPv4", address: "10.0.0.5" },
    { name: "eth0", family: "IPv6", address: "fd00::5" },
    { name: "tb0", family: "IPv6", address: "fe80::1" },
    { name: "tb0", family: "IPv6", address: "fd00::7" },
    { name: "eth0:1", family: "IPv4", address: "10.0.0.5" },
  ];
  assert.deepEqual(localAddresses(7, interfaces), [
    "/ip4/10.0.0.5/tcp/7",
    "/ip6/fd00::7/tcp/7",
    "/ip4/127.0.0.1/tcp/7",
  ]);
});

Deno.test("no more are told than a peer takes, and loopback always is", () => {
  const many = Array.from({ length: 200 }, (_, at): InterfaceAddress => ({
    name: `br${at}`,
    family: "IPv4",
    address: `172.17.${at}.1`,
  }));
  for (const interfaces of [[...LOOPBACK, ...many], [...many, ...LOOPBACK]]) {
    const addresses = localAddresses(7, interfaces);
    assert.equal(addresses.length, ADDRESSES_MAX);
    assert.equal(addresses.at(-1), "/ip4/127.0.0.1/tcp/7");
    assert.equal(addresses[0], "/ip4/172.17.0.1/tcp/7");
  }
});

Deno.test("a host is the same for all who ask on it", async () => {
  const [one, other] = await Promise.all([readHostId(), readHostId()]);
  assert.match(one, /^[0-9a-f]{64}$/);
  if (Deno.build.os === "linux") assert.equal(one, other);
});

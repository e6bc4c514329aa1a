import { deepEqual } from "node:assert/strict";
import { type InterfaceAddress, localAddresses } from "../../net/local_addresses.ts";

const at = (name: string, address: string): InterfaceAddress => ({
  name,
  family: address.includes(":") ? "IPv6" : "IPv4",
  address,
});

Deno.test("localAddresses() has IPv6 only of interfaces without IPv4, and loopback last", () => {
  const interfaces = [
    at("lo", "127.0.0.1"),
    at("lo", "::1"),
    at("eth0", "10.0.0.2"),
    at("eth0", "fd00::2"),
    at("en5", "fd01::2"),
    at("en5", "fe80::1"),
    at("en6", "fe80::2"),
  ];
  deepEqual(localAddresses(4001, interfaces), [
    "/ip4/10.0.0.2/tcp/4001",
    "/ip6/fd01::2/tcp/4001",
    "/ip4/127.0.0.1/tcp/4001",
  ]);
});

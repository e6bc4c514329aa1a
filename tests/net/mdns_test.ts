import assert from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import { Mdns } from "../../net/mdns.ts";
import type { Query, Record, Response, Socket } from "../../net/multicast_dns.d.ts";
import { FakeTime } from "../support/fake_time.ts";

const SERVICE = "_exo-0123456789abcdef._udp.local";
const B = "12D3KooWHosts";

type Listener = (packet: never) => void;

/** A socket whose packets a test says, and sees. */
class FakeSocket implements Socket {
  readonly queries: string[] = [];
  readonly answers: Record[] = [];
  isOpen = true;
  readonly #listeners = new Map<string, Listener>();

  on(event: string, listener: Listener): void {
    this.#listeners.set(event, listener);
  }

  hear(event: "query", packet: Query): void;
  hear(event: "response", packet: Response): void;
  hear(event: "error", cause: Error): void;
  hear(event: string, packet: unknown): void {
    this.#listeners.get(event)?.(packet as never);
  }

  query({ questions }: { questions: readonly { name: string; type: string }[] }): void {
    this.queries.push(...questions.map(({ name, type }) => `${type} ${name}`));
  }

  respond({ answers }: { answers: readonly Record[] }): void {
    this.answers.push(...answers);
  }

  destroy(done?: () => void): void {
    this.isOpen = false;
    done?.();
  }
}

function started(interfaces = ["10.0.0.1", "10.1.0.1"]) {
  const sockets = new Map<string, FakeSocket>();
  const found: string[] = [];
  const mdns = new Mdns({
    self: NodeId.parse("12D3KooWSelf"),
    serviceName: SERVICE,
    addresses: () => ["/ip4/10.0.0.1/tcp/7", `/dns4/${"x".repeat(255)}/tcp/7`],
    interfaces: () => interfaces,
    found: (peer, addresses) => found.push(`${peer} ${addresses.join(" ")}`),
    open: (address) => {
      const socket = new FakeSocket();
      sockets.set(address, socket);
      return socket;
    },
  });
  mdns.start();
  const socket = (address: string) => {
    const one = sockets.get(address);
    assert.ok(one, `no socket on ${address}`);
    return one;
  };
  return { mdns, sockets, socket, found, interfaces };
}

function texts(...data: Record["data"][]): Record[] {
  return [
    { name: SERVICE, type: "PTR", data: `x.${SERVICE}` },
    ...data.map((one) => ({ name: `x.${SERVICE}`, type: "TXT", data: one ?? "" })),
  ];
}

Deno.test("a node asks on each interface: at once, a few times more, then now and again", async () => {
  using time = new FakeTime();
  const { mdns, socket } = started();
  const asked = () => [socket("10.0.0.1"), socket("10.1.0.1")].map(({ queries }) => queries.length);
  assert.deepEqual(asked(), [1, 1]);
  await time.pass(4_000);
  assert.deepEqual(asked(), [4, 4]);
  await time.pass(60_000);
  assert.deepEqual(asked(), [6, 6]);
  assert.ok(socket("10.0.0.1").queries.every((one) => one === `PTR ${SERVICE}`));
  await mdns.stop();
  assert.equal(time.armedCount, 0);
  assert.equal(socket("10.0.0.1").isOpen, false);
});

Deno.test("interfaces that come are asked on, those that go are left", async () => {
  using time = new FakeTime();
  const { mdns, socket, interfaces } = started();
  interfaces.splice(0, 1, "10.2.0.1");
  await time.pass(5_000);
  assert.equal(socket("10.0.0.1").isOpen, false);
  assert.equal(socket("10.2.0.1").queries.length, 1);
  assert.equal(socket("10.1.0.1").queries.length, 5);
  await mdns.stop();
});

Deno.test("who asks for the service is told where this node listens, others nothing", async () => {
  using _time = new FakeTime();
  const { mdns, socket } = started();
  const one = socket("10.0.0.1");
  one.hear("query", { questions: [{ name: "_other._udp.local" }] });
  one.hear("query", {});
  assert.deepEqual(one.answers, []);
  one.hear("query", { questions: [{ name: SERVICE }] });
  const name = `12D3KooWSelf.${SERVICE}`;
  assert.deepEqual(one.answers, [
    { name: SERVICE, type: "PTR", ttl: 120, data: name },
    { name, type: "TXT", ttl: 120, data: "dnsaddr=/ip4/10.0.0.1/tcp/7/p2p/12D3KooWSelf" },
  ], "a text that is too long for DNS is left out");
  assert.deepEqual(socket("10.1.0.1").answers, []);
  await mdns.stop();
});

Deno.test("what others tell of themselves is found, wherever in the packet it is", async () => {
  using _time = new FakeTime();
  const { mdns, socket, found } = started();
  const one = socket("10.0.0.1");
  const [pointer, ...rest] = texts(
    `dnsaddr=/ip4/10.0.0.2/tcp/7/p2p/${B}`,
    [new TextEncoder().encode(`dnsaddr=/ip6/fd00::2/tcp/7/p2p/${B}`)],
    "dnsaddr=/ip4/10.0.0.3/tcp/7/p2p/12D3KooWOther",
  );
  one.hear("response", { answers: [pointer as Record], additionals: rest });
  assert.deepEqual(found, [
    `${B} /ip4/10.0.0.2/tcp/7 /ip6/fd00::2/tcp/7`,
    "12D3KooWOther /ip4/10.0.0.3/tcp/7",
  ]);
  await mdns.stop();
});

Deno.test("its own records, other services and nonsense are not heard", async () => {
  using _time = new FakeTime();
  const { mdns, socket, found } = started();
  const one = socket("10.0.0.1");
  const other = texts(`dnsaddr=/ip4/10.0.0.2/tcp/7/p2p/${B}`).map((record) => ({
    ...record,
    name: record.name.replace("exo", "other"),
  }));
  one.hear("response", { answers: other });
  one.hear("response", {});
  one.hear("response", {
    answers: texts(
      "dnsaddr=/ip4/10.0.0.1/tcp/7/p2p/12D3KooWSelf",
      "dnsaddr=/ip4/10.0.0.2/tcp/7",
      `dnsaddr=/p2p/${B}`,
      `dnsaddr=/ip4/10.0.0.2/tcp/7/p2p/${"x".repeat(129)}`,
      "",
      [Uint8Array.of(255, 254)],
    ),
  });
  one.hear("error", new Error("no multicast here"));
  assert.deepEqual(found, []);
  await mdns.stop();
});

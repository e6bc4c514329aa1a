import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { median } from "../../bench/statistics.ts";
import { eventually } from "../support/eventually.ts";
import { VirtualNetwork, whyNoNetwork } from "../../bench/netns.ts";

const PEER = new URL("./netns_peer_main.ts", import.meta.url).pathname;

/** A program on a machine that talks to those of the others. */
class Peer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;
  readonly address: string;
  tcpPort = 0;
  udpPort = 0;

  constructor(network: VirtualNetwork, machine: number) {
    this.address = network.address(machine);
    const peer = [Deno.execPath(), "run", "-A", "--no-check", PEER, this.address];
    const [program = "", ...args] = [...network.wrap(machine), ...peer];
    const io = { stdin: "piped", stdout: "piped", stderr: "inherit" } as const;
    this.#child = new Deno.Command(program, { args, ...io }).spawn();
    this.#input = this.#child.stdin.getWriter();
    const input = Readable.fromWeb(this.#child.stdout);
    this.#lines = createInterface({ input })[Symbol.asyncIterator]();
  }

  async start(): Promise<this> {
    [this.tcpPort, this.udpPort] = await this.#next() as [number, number];
    return this;
  }

  async #next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    assert.ok(!done, "the program goes on");
    return JSON.parse(value);
  }

  async #ask(line: string): Promise<unknown> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
    return await this.#next();
  }

  /** Round trips of those datagrams that came back, in ms. */
  async echo(to: Peer, count: number): Promise<number[]> {
    const all = await this.#ask(`echo ${to.address} ${to.udpPort} ${count}`) as (number | null)[];
    return all.filter((ms) => ms !== null);
  }

  fetch(from: Peer, bytes: number): Promise<unknown> {
    return this.#ask(`fetch ${from.address} ${from.tcpPort} ${bytes}`);
  }

  multicast(text: string): Promise<unknown> {
    return this.#ask(`multicast ${text}`);
  }

  heard(): Promise<unknown> {
    return this.#ask("heard");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close();
    await this.#child.status;
  }
}

/**
 * Tells each machine who has which address, for good. Else their kernels ask anew after some seconds,
 * and such frames are lost and cut like those of the test.
 */
async function introduceAll(network: VirtualNetwork): Promise<void> {
  for (const machine of network.machines) {
    const card = (await network.run(machine, "cat", "/sys/class/net/eth0/address")).trim();
    const who = [network.address(machine), "lladdr", card, "dev", "eth0", "nud", "permanent"];
    for (const other of network.machines) {
      if (other !== machine) await network.run(other, "ip", "neigh", "replace", ...who);
    }
  }
}

const why = await whyNoNetwork();

Deno.test({
  name: "machines of a virtual network are as far from each other as they are told" +
    (why === undefined ? "" : ` (${why})`),
  ignore: why !== undefined,
  async fn(t) {
    await using network = await VirtualNetwork.start({ machines: 3, seed: 7 });
    await introduceAll(network);
    const cards = Deno.networkInterfaces().map(({ name }) => name);
    await using a = new Peer(network, 0);
    await using b = new Peer(network, 1);
    await using c = new Peer(network, 2);
    await Promise.all([a.start(), b.start(), c.start()]);

    await t.step(
      "they reach each other, and what one says to all is heard by the others",
      async () => {
        assert.equal((await a.echo(b, 5)).length, 5);
        assert.equal((await c.echo(b, 5)).length, 5);
        await a.multicast("hello");
        await eventually(
          "both have heard it",
          async () => `${await b.heard()}` === "hello" && `${await c.heard()}` === "hello",
        );
        assert.deepEqual(await a.heard(), []);
      },
    );

    await t.step("delay", async () => {
      await network.shape(0, 1, { delayMs: 20 });
      const ms = median(await a.echo(b, 9)) ?? NaN;
      // Never less; how much more is up to how busy this machine is.
      assert.ok(ms >= 20 && ms < 120, `${ms} ms there and back, 20 ms one way`);
      await network.shape(0, 1, { delayMs: 0 });
    });

    await t.step("loss, of each link by its own seed", async () => {
      await network.shape(0, 1, { loss: 0.3 });
      const before = await network.counts(0, 1);
      const back = (await a.echo(b, 200)).length;
      const lost = (await network.counts(0, 1)).lost - before.lost;
      const others = lost - (200 - back);
      assert.ok(others >= 0, `${back} came back, and what did not was lost: ${lost}`);
      assert.ok(others < 10, `hardly more is sent than the test sends: ${others}`);
      assert.ok(lost > 30 && lost < 90, `${lost} of 200 lost`);
      await network.shape(0, 1, { loss: 0 });
    });

    await t.step("bandwidth", async () => {
      await network.limit(1, 20_000_000);
      const ms = Number(await a.fetch(b, 1_000_000));
      // 400 ms for the bytes, less the bucket's 13 ms.
      assert.ok(ms > 350, `${ms} ms for 1 MB at 20 Mbit/s`);
      assert.ok(Number(await a.fetch(c, 1_000_000)) < 350, "the others are as before");
    });

    await t.step(
      "a cut keeps two machines apart, but nobody else, until it is healed",
      async () => {
        await network.cut([0], [1, 2]);
        assert.deepEqual(await a.echo(b, 3), []);
        assert.deepEqual(await c.echo(a, 3), []);
        assert.equal((await b.echo(c, 3)).length, 3);
        await network.heal();
        assert.equal((await a.echo(b, 3)).length, 3);
        await network.cutOneWay([0], [1]);
        const { dropped } = await network.counts(0, 1);
        assert.deepEqual(await b.echo(a, 3), [], "the way there is open, the way back is not");
        assert.ok((await network.counts(0, 1)).dropped > dropped);
        await network.heal();
      },
    );

    await t.step("a cable that is pulled is seen by its machine", async () => {
      await network.unplug(2);
      const carrier = () => network.run(2, "cat", "/sys/class/net/eth0/operstate");
      assert.equal((await carrier()).trim(), "down");
      assert.deepEqual(await a.echo(c, 3), []);
      await network.plug(2);
      assert.equal((await carrier()).trim(), "up");
      assert.equal((await a.echo(c, 3)).length, 3);
    });

    await t.step("a door leads to a machine's loopback, whatever is cut", async () => {
      await network.unplug(0);
      const port = await network.door(0, a.tcpPort);
      using socket = await Deno.connect({ hostname: "127.0.0.1", port });
      await socket.write(new TextEncoder().encode("9"));
      assert.equal((await new Response(socket.readable).bytes()).length, 9);
    });

    await t.step("this machine's own network is as it was", () => {
      assert.deepEqual(Deno.networkInterfaces().map(({ name }) => name), cards);
    });
  },
});

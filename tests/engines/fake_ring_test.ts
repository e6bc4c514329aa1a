import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import type { GroupSpec } from "../../core/group.ts";
import type { Engine } from "../../engines/engine.ts";
import { FakeBuilder } from "../../engines/fake.ts";
import { FakeRing } from "../../engines/fake_ring.ts";
import { taskId } from "../support/fixtures.ts";

const NAMES = ["mini", "studio", "tower", "box"];
const JOIN_MS = 10_000;
const never = new AbortController().signal;

/** A place for each rank, on ports that nobody has right now. */
function specs(size: number, groupId = "i/1.1"): GroupSpec[] {
  using all = new DisposableStack();
  const hosts = Array.from({ length: size }, () => {
    const { addr } = all.use(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
    return { ip: "127.0.0.1", port: addr.port };
  });
  return hosts.map((_, rank) => ({
    ...{ groupId, rank, size, names: NAMES.slice(0, size) },
    link: { type: "ring", hosts },
  }));
}

const join = (spec: GroupSpec) => FakeRing.join(spec, JOIN_MS, never);

/** The frame that a rank is sent next. */
async function taken(ring: FakeRing): Promise<string | undefined> {
  while (!ring.hasNews) await ring.arrival();
  return ring.take();
}

const broken = (message: RegExp) => (error: unknown) =>
  error instanceof AppError && error.code === "group_broken" && message.test(error.message);

for (const size of [2, 3, 4]) {
  Deno.test(`frames pass all of ${size} ranks, and come back in order`, async () => {
    const ranks = await Promise.all(specs(size).map(join));
    const [first, ...others] = ranks;
    assert.ok(first);
    for (const frame of ["one", "two"]) first.send(frame);
    for (const rank of others) {
      for (let count = 0; count < 2; count++) rank.send(await taken(rank) ?? "none");
    }
    assert.deepEqual([await taken(first), await taken(first)], ["one", "two"]);
    for (const rank of ranks) rank.close();
  });
}

Deno.test("the end of a rank breaks the group, and its neighbours say whose it was", async () => {
  const [a, b, c] = await Promise.all(specs(3).map(join));
  assert.ok(a && b && c);
  b.close();
  const said = /^Rank 1 on "studio" has closed the connection$/;
  await assert.rejects(taken(a), broken(said));
  await assert.rejects(taken(c), broken(said));
  a.close();
  c.close();
});

Deno.test("a rank that nobody meets says after its time who is missing", async () => {
  const [a, b] = specs(3);
  assert.ok(a && b);
  const met = FakeRing.join(a, 300, never);
  const alone = FakeRing.join(b, 300, never);
  await assert.rejects(met, broken(/^Rank 2 on "tower" did not connect within 0.3 s$/));
  await assert.rejects(alone, broken(/^Rank 2 on "tower" did not connect within 0.3 s$/));
});

Deno.test("a port that is taken is named, and what to do", async () => {
  const [spec] = specs(2);
  assert.ok(spec?.link.type === "ring");
  const [own] = spec.link.hosts;
  assert.ok(own);
  using _taken = Deno.listen({ hostname: own.ip, port: own.port });
  const message = new RegExp(`^Cannot listen at 127.0.0.1:${own.port}: address in use$`);
  await assert.rejects(join(spec), broken(message));
});

Deno.test("a stranger on the port, and a rank of another start, disturb nobody", async () => {
  const [a, b] = specs(2);
  assert.ok(a?.link.type === "ring" && b);
  const [host] = a.link.hosts;
  assert.ok(host);
  const first = join(a);
  for (const said of ["GET / HTTP/1.1\r\n", "x".repeat(9_000), '{"groupId":"i/0.0","rank":1}\n']) {
    const stranger: Deno.TcpConn = await Deno.connect({ hostname: host.ip, port: host.port });
    await stranger.write(new TextEncoder().encode(said));
    if (said.endsWith("}\n")) assert.equal(await stranger.read(new Uint8Array(1)), null);
    stranger.close();
  }
  const [one, other] = await Promise.all([first, join(b)]);
  one.send("through");
  assert.equal(await taken(other), "through");
  one.close();
  other.close();
});

Deno.test("who is told to end stops waiting for the others", async () => {
  const [spec] = specs(2);
  assert.ok(spec);
  const builder = new FakeBuilder();
  const joined = builder.connect(spec);
  builder.close();
  await assert.rejects(joined, broken(/did not connect/));
});

/** Engines of a group, the first of which leads. */
async function engines(size: number, script: ConstructorParameters<typeof FakeBuilder>[0] = {}) {
  const builders = specs(size).map(() => new FakeBuilder(script));
  const places = specs(size);
  await Promise.all(builders.map((one, rank) => one.connect(places[rank] as GroupSpec)));
  return builders.map((one) => {
    const model = { shard: {} as never, modelPath: "", config: {} };
    for (const _ of one.load(model));
    const engine = one.build();
    engine.warmup();
    return engine;
  });
}

/** Drives an engine as a runner does, until it throws or says that the task is over. */
async function drive(engine: Engine, isOver: () => boolean, say: (word: string) => void) {
  while (!isOver()) {
    if (!engine.hasWork()) await engine.arrival?.();
    if (isOver()) return;
    for (const [, response] of engine.step()) {
      say(response.type === "chunk" ? response.chunk.type : response.type);
    }
  }
}

const payload = {
  messages: [{ role: "user" as const, content: "one two" }],
  ...{ sampling: {}, stop: [], seed: "1" },
};

Deno.test("the first rank of a fake group serves, and the others take part in each step", async () => {
  const all = await engines(3);
  const [first, ...others] = all;
  assert.ok(first);
  first.submit({ taskId: taskId("t"), payload });
  const words: string[] = [];
  const isOver = () => words.includes("finished");
  const led = others.map((one) => drive(one, isOver, () => {}).catch(() => {}));
  await drive(first, isOver, (word) => words.push(word));
  assert.deepEqual(words, ["PrefillProgress", "Token", "Token", "Finish", "finished"]);
  assert.deepEqual(others.map((one) => one.stats().steps), [3, 3]);
  for (const one of all) one.close();
  await Promise.all(led);
});

Deno.test("a fault strikes the rank that the script names, and no other", async () => {
  await assert.rejects(engines(2, { failIn: "warmup", rank: 1 }), /told to fail in warmup/);
  const alone = new FakeBuilder({ failIn: "warmup", rank: 1 }).build();
  alone.warmup();
});

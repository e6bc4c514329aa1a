import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { AppError } from "../../core/errors.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { ASIDE_MAX, openStorage } from "../../node/storage.ts";
import { A, fold, nodeStarted } from "../support/fixtures.ts";
import { TempDir } from "../support/temp_dir.ts";
import { startTestNode, until } from "../support/test_node.ts";

const GARBAGE = "garbage ".repeat(1_000);

/** Makes a log with an event, and gives its node's id. */
async function fill(dir: string): Promise<string> {
  const { identity, eventLog } = await openStorage(dir);
  const epoch = { clock: 1, nodeId: identity.nodeId };
  eventLog.store([{ type: "Persist", events: [{ idx: 0, epoch, event: nodeStarted(A) }] }]);
  eventLog.close();
  return identity.nodeId;
}

/** That nothing can be opened, and why. */
async function fails(dir: string, message: RegExp): Promise<void> {
  await assert.rejects(openStorage(dir), (thrown) => {
    assert.ok(thrown instanceof AppError && thrown.code === "storage_failed", String(thrown));
    assert.match(thrown.message, message);
    return true;
  });
}

/** Damages that nothing but a broken disk, or another program, leaves. */
const DAMAGES: Readonly<Record<string, (path: string) => void>> = {
  "another file in its place": (path) => Deno.writeTextFileSync(path, GARBAGE),
  "an entry that is no JSON": sql("UPDATE events SET eventJson = '{'"),
  "a gap": sql("UPDATE events SET idx = 7"),
  "a snapshot that is cut off": sql("INSERT INTO snapshot VALUES (1, 5, 1, 'n', 1, '{')"),
  "tables of something else": sql("DROP TABLE events; CREATE TABLE events (idx INTEGER)"),
};

function sql(text: string): (path: string) => void {
  return (path) => {
    const db = new DatabaseSync(path);
    db.exec(text);
    db.close();
  };
}

for (const [name, damage] of Object.entries(DAMAGES)) {
  Deno.test(`L4: a log with ${name} is set aside with its identity`, async () => {
    await using dir = await TempDir.make();
    const before = await fill(dir.path);
    damage(join(dir.path, "log.sqlite"));
    const damaged = await Deno.readFile(join(dir.path, "log.sqlite"));
    const records: LogRecord[] = [];
    await configure({
      sinks: { kept: (record) => records.push(record) },
      loggers: [
        { category: ["exo"], lowestLevel: "warning", sinks: ["kept"] },
        { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
      ],
    });
    const { identity, eventLog, left } = await openStorage(dir.path);
    await reset();
    eventLog.close();
    assert.notEqual(identity.nodeId, before);
    assert.deepEqual(left, { state: EMPTY_STATE });
    assert.deepEqual(await Deno.readFile(join(dir.path, "log.sqlite.aside-1")), damaged);
    assert.ok((await Deno.stat(join(dir.path, "identity.key.aside-1"))).isFile);
    assert.equal(records.length, 1);
    const said = records[0]?.message.join("") ?? "";
    assert.match(
      said,
      /log\.sqlite.*set aside as log\.sqlite\.aside-1, and identity\.key\.aside-1/,
    );
  });
}

Deno.test("a log that is whole stays, and so does its node", async () => {
  await using dir = await TempDir.make();
  const before = await fill(dir.path);
  const { identity, eventLog, left } = await openStorage(dir.path);
  eventLog.close();
  assert.equal(identity.nodeId, before);
  assert.deepEqual(left.state.nodes, fold([nodeStarted(A)]).nodes);
});

Deno.test("what was set aside is never written over, and there is a limit to it", async () => {
  await using dir = await TempDir.make();
  const path = join(dir.path, "log.sqlite");
  for (let nth = 1; nth <= 2; nth++) {
    await Deno.writeTextFile(path, `${nth} ${GARBAGE}`);
    (await openStorage(dir.path)).eventLog.close();
  }
  for (let nth = 1; nth <= 2; nth++) {
    assert.match(await Deno.readTextFile(`${path}.aside-${nth}`), new RegExp(`^${nth} garbage`));
  }
  for (let nth = 3; nth <= ASIDE_MAX; nth++) await Deno.writeTextFile(`${path}.aside-${nth}`, "");
  await Deno.writeTextFile(path, GARBAGE);
  await fails(dir.path, /100 that were set aside before/);
  assert.equal(await Deno.readTextFile(path), GARBAGE);
});

Deno.test("a log of a newer exo is refused, and nothing is set aside", async () => {
  await using dir = await TempDir.make();
  const before = await fill(dir.path);
  sql("INSERT INTO snapshot VALUES (1, 5, 1, 'n', 99, '{}')")(join(dir.path, "log.sqlite"));
  await fails(dir.path, /written by a newer exo/);
  sql("DELETE FROM snapshot")(join(dir.path, "log.sqlite"));
  const { identity, eventLog } = await openStorage(dir.path);
  eventLog.close();
  assert.equal(identity.nodeId, before);
});

Deno.test("L4: a node whose log was damaged joins as a new one, by a snapshot", async () => {
  await using dir = await TempDir.make();
  const network = new MemoryNetwork();
  const start = (name: string) =>
    startTestNode(join(dir.path, name), {}, {
      connect: ({ nodeId }) => Promise.resolve(network.join(nodeId)),
    });
  const stays = await start("stays");
  const before = await start("damaged");
  const old = before.nodeId;
  await before.stop();
  await Deno.writeTextFile(join(dir.path, "damaged", "log.sqlite"), GARBAGE);
  const after = await start("damaged");
  assert.notEqual(after.nodeId, old);
  await until(after, "it knows the cluster", ({ nodes }) => nodes.size === 2);
  assert.equal(after.epoch()?.nodeId, stays.nodeId);
  assert.equal(after.state().nodes.has(old), false);
  await after.stop();
  await stays.stop();
});

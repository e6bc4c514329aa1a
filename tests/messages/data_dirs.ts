import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { EventLog } from "../../node/event_log.ts";
import { ASIDE_MAX } from "../../node/storage.ts";
import { A, nodeStarted } from "../support/fixtures.ts";
import { TempDir } from "../support/temp_dir.ts";
import { tellTyped } from "./command_line.ts";
import type { Told } from "./told.ts";
import type { World } from "./world.ts";

/** What a node says that is started on this data directory. */
export async function startedOn(
  name: string,
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Told> {
  const argv = ["serve", "--no-worker", "--no-api", "-q", "--data-dir", dataDir];
  return await tellTyped({ name, argv, env });
}

/** A log with one event, then changed. */
function log(sql: string): Change {
  return (dir) => {
    const log = EventLog.open(dir);
    const epoch = { clock: 1, nodeId: A };
    log.store([{ type: "Persist", events: [{ idx: 0, epoch, event: nodeStarted(A) }] }]);
    log.close();
    const db = new DatabaseSync(join(dir, "log.sqlite"));
    db.exec(sql);
    db.close();
  };
}

type Change = (dir: string) => void;
const file = (name: string, text: string): Change => (dir) =>
  Deno.writeTextFileSync(join(dir, name), text);
const folder = (name: string): Change => (dir) => Deno.mkdirSync(join(dir, name));

/** Data directories with one thing wrong, by what it is. */
const BROKEN: Readonly<Record<string, Change>> = {
  "an identity that is no key": file("identity.key", "hello"),
  "an identity that is a folder": folder("identity.key"),
  "a log that is a folder": folder("log.sqlite"),
  "one damaged log more than are kept": (dir) => {
    for (let nth = 1; nth <= ASIDE_MAX; nth++) file(`log.sqlite.aside-${nth}`, "")(dir);
    file("log.sqlite", "garbage ".repeat(1_000))(dir);
  },
  "a log of a newer version": log("PRAGMA user_version = 99"),
  "a snapshot of a newer version": log("INSERT INTO snapshot VALUES (1, 5, 1, 'n', 99, '{}')"),
  "an event that nobody knows": log(`UPDATE events SET eventJson = '{"type":"Nonsense"}'`),
};

/** Data directories on which no node starts. */
export async function dataDirs(world: World): Promise<Told[]> {
  await using dir = await TempDir.make();
  const plain = join(dir.path, "file");
  await Deno.writeTextFile(plain, "");
  const told = [
    await startedOn("a data directory that is a file", plain),
    await startedOn("a data directory below a file", join(plain, "data")),
    await startedOn("a second node on a data directory", join(world.dir, "data")),
  ];
  await world.isWell("a second node");
  for (const [name, change] of Object.entries(BROKEN)) {
    const broken = join(dir.path, `case-${told.length}`);
    await Deno.mkdir(broken);
    change(broken);
    told.push(await startedOn(name, broken));
  }
  const argv = ["serve", "--no-worker", "--no-api", "-q"];
  const home = { name: "EXO_HOME that is a file", argv, env: { EXO_HOME: plain } };
  const resources = { EXO_HOME: join(dir.path, "home"), EXO_RESOURCES_DIR: join(dir.path, "none") };
  const cards = { name: "EXO_RESOURCES_DIR without cards", argv, env: resources };
  return [...told, await tellTyped(home), await tellTyped(cards)];
}

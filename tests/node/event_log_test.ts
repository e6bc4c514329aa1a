import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { apply } from "../../core/apply.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { Event, IndexedEvent } from "../../core/events.ts";
import type { Epoch } from "../../core/lineage.ts";
import { EMPTY_STATE, encodeState, type State } from "../../core/state.ts";
import { DamagedLogError, EventLog, TAIL_EVENTS_MAX, type Write } from "../../node/event_log.ts";
import { A, B, created, fold, instanceOf, nodeStarted, reported } from "../support/fixtures.ts";
import { LOG_MAIN } from "../support/programs.ts";
import { TempDir } from "../support/temp_dir.ts";

const EPOCH: Epoch = { clock: 1, nodeId: A };

/** Events with their places in the log, from `first` on. */
function indexed(events: readonly Event[], first = 0, epoch = EPOCH): IndexedEvent[] {
  return events.map((event, n) => ({ idx: first + n, epoch, event }));
}

/** A write of events. */
function persist(events: readonly IndexedEvent[]): Write {
  return { type: "Persist", events };
}

/** That `run` fails with this code; the message says why, and the hint what to do. */
function fails(run: () => unknown, code: ErrorCode, message: RegExp, hint = /./): void {
  assert.throws(run, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    assert.match(thrown.message, message);
    assert.match(thrown.hint ?? "", hint);
    return true;
  });
}

/** The rows of a table, read by another connection; the log must be closed. */
function rows(dir: string, sql: string): Record<string, unknown>[] {
  const db = new DatabaseSync(join(dir, "log.sqlite"));
  try {
    return db.prepare(sql).all();
  } finally {
    db.close();
  }
}

function execute(dir: string, sql: string): void {
  const db = new DatabaseSync(join(dir, "log.sqlite"));
  db.exec(sql);
  db.close();
}

/** The log, closed at the end of its test. */
function disposable(log: EventLog): EventLog & Disposable {
  return Object.assign(log, { [Symbol.dispose]: () => log.close() });
}

const EVENTS = [nodeStarted(A), created(instanceOf("i")), reported("i:0", "RunnerReady")];

Deno.test("L1: what was appended is replayed, with the newest epoch", async () => {
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  log.store([persist(indexed(EVENTS))]);
  const second = { clock: 2, nodeId: B };
  log.store([persist(indexed([nodeStarted(B)], EVENTS.length, second))]);
  const { state, epoch } = log.replay();
  const [last] = indexed([nodeStarted(B)], EVENTS.length, second);
  assert.ok(last);
  assert.equal(encodeState(state), encodeState(apply(fold(EVENTS), last)));
  assert.deepEqual(epoch, second);
  log.close();
});

Deno.test("L2, L3: a row is index, epoch and event; an empty log replays as nothing", async () => {
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  assert.deepEqual(log.replay(), { state: EMPTY_STATE });
  log.store([persist([])]);
  log.store([persist(indexed(EVENTS))]);
  log.close();
  const found = rows(dir.path, "SELECT * FROM events WHERE idx >= 1 ORDER BY idx");
  assert.deepEqual(found.map(({ idx }) => idx), [1, 2]);
  assert.deepEqual([found[0]?.epochClock, found[0]?.epochNodeId], [1, A]);
  assert.deepEqual(JSON.parse(String(found[0]?.eventJson)), EVENTS[1]);
});

Deno.test("L5, L6, changed by D4: reopening gives the same state, as often as one likes", async () => {
  await using dir = await TempDir.make();
  let log = EventLog.open(dir.path);
  log.store([persist(indexed(EVENTS))]);
  for (let again = 0; again < 3; again++) {
    log.close();
    log = EventLog.open(dir.path);
    assert.equal(encodeState(log.replay().state), encodeState(fold(EVENTS)));
  }
  log.close();
});

Deno.test("an index that is taken is refused, and nothing of its batch is stored", async () => {
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  log.store([persist(indexed(EVENTS))]);
  const batch = [...indexed([nodeStarted(B)], EVENTS.length), ...indexed([nodeStarted(B)], 1)];
  fails(
    () => log.store([persist(batch)]),
    "storage_failed",
    /Cannot write the event log .*: UNIQUE constraint failed: events\.idx, entries .* needed$/,
    /start the node again/,
  );
  assert.equal(encodeState(log.replay().state), encodeState(fold(EVENTS)));
  log.store([persist(indexed([nodeStarted(B)], EVENTS.length))]);
  assert.equal(log.replay().state.nodes.size, 2);
  log.close();
});

/** A log with `count` events, each compacted as a master would, and its state. */
function filled(log: EventLog, count: number): State {
  let state = log.replay().state;
  for (let n = 0; n < count; n++) {
    const [event] = indexed([nodeStarted(A, n)], state.lastEventAppliedIdx + 1);
    assert.ok(event);
    log.store([persist([event])]);
    state = apply(state, event);
    log.compact(state, EPOCH);
  }
  return state;
}

Deno.test("an installed state takes the place of all events, and the log goes on from it", async () => {
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  log.store([persist(indexed([nodeStarted(A, 1), nodeStarted(A, 2)]))]);
  const epoch = { clock: 5, nodeId: B };
  const state = fold(EVENTS);
  const next = indexed([nodeStarted(B)], state.lastEventAppliedIdx + 1, epoch);
  assert.equal(log.store([{ type: "Install", state, epoch }, persist(next)]), true);
  const replayed = log.replay();
  assert.equal(encodeState(replayed.state), encodeState(next.reduce(apply, state)));
  assert.deepEqual(replayed.epoch, epoch);
  log.close();
  assert.equal(rows(dir.path, "SELECT idx FROM events").length, 1);
});

Deno.test("a branch waits on the disk until it is let go", async () => {
  await using dir = await TempDir.make();
  const branch = fold([nodeStarted(B)]);
  const first = EventLog.open(dir.path);
  first.store([{ type: "KeepBranch", branch }]);
  first.close();
  const log = EventLog.open(dir.path);
  assert.deepEqual(log.replay().branch, branch);
  log.store([{ type: "KeepBranch", branch: undefined }]);
  assert.deepEqual(log.replay(), { state: EMPTY_STATE });
  assert.equal(log.store([]), false, "nothing to store");
  log.close();
  execute(dir.path, "INSERT INTO branch VALUES (1, 99, '{}')");
  const newer = EventLog.open(dir.path);
  fails(() => newer.replay(), "storage_failed", /branch was written by a newer exo/);
  newer.close();
});

Deno.test("at TAIL_EVENTS_MAX events a snapshot takes their place; replay is equal", async () => {
  await using dir = await TempDir.make();
  let log = EventLog.open(dir.path);
  let state = filled(log, TAIL_EVENTS_MAX - 1);
  log.close();
  assert.deepEqual(rows(dir.path, "SELECT * FROM snapshot"), []);
  log = EventLog.open(dir.path);
  state = filled(log, 1);
  log.close();
  assert.deepEqual(rows(dir.path, "SELECT * FROM events"), []);
  const [snapshot] = rows(dir.path, "SELECT idx, epochClock, epochNodeId FROM snapshot");
  assert.deepEqual({ ...snapshot }, {
    idx: TAIL_EVENTS_MAX - 1,
    epochClock: 1,
    epochNodeId: A,
  });
  log = EventLog.open(dir.path);
  assert.equal(encodeState(log.replay().state), encodeState(state));
  assert.deepEqual(log.replay().epoch, EPOCH);
  state = filled(log, 5);
  assert.equal(encodeState(log.replay().state), encodeState(state), "snapshot and tail");
  state = filled(log, TAIL_EVENTS_MAX);
  assert.equal(encodeState(log.replay().state), encodeState(state), "a second snapshot");
  log.close();
  assert.equal(rows(dir.path, "SELECT * FROM snapshot").length, 1);
});

Deno.test("events are read by their index, as far as the log goes back", async () => {
  await using dir = await TempDir.make();
  using log = disposable(EventLog.open(dir.path));
  assert.deepEqual(log.events(0, 10), { oldestIdx: undefined, events: [] });
  const stored = indexed(EVENTS);
  log.store([persist(stored)]);
  assert.deepEqual(log.events(0, 10), { oldestIdx: 0, events: stored });
  assert.deepEqual(log.events(1, 1), { oldestIdx: 0, events: stored.slice(1, 2) });
  assert.deepEqual(log.events(3, 10), { oldestIdx: 0, events: [] });
  const more = indexed(Array.from({ length: TAIL_EVENTS_MAX }, () => nodeStarted(B)), 3);
  log.store([persist(more)]);
  log.compact(fold([...EVENTS, ...more.map(({ event }) => event)]), EPOCH);
  assert.deepEqual(log.events(0, 10), { oldestIdx: undefined, events: [] });
});

Deno.test("a process killed in the middle of writing leaves a log that is whole", async () => {
  await using dir = await TempDir.make();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", LOG_MAIN],
    env: { DATA_DIR: dir.path },
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const written = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await written.read();
  child.kill("SIGKILL");
  await child.status;
  const log = EventLog.open(dir.path);
  const { state } = log.replay();
  const acknowledged = Number(value.trim().split("\n").at(-1));
  assert.ok(state.lastEventAppliedIdx >= acknowledged, "what was acknowledged is there");
  log.store([persist(indexed([nodeStarted(B)], state.lastEventAppliedIdx + 1))]);
  log.close();
  await written.cancel();
});

Deno.test("a second opener is refused while the first lives, and let in after it", async () => {
  await using dir = await TempDir.make();
  const first = EventLog.open(dir.path);
  fails(() => EventLog.open(dir.path), "conflict", /another node uses this directory/);
  first.store([persist(indexed(EVENTS))]);
  first.close();
  EventLog.open(dir.path).close();
});

Deno.test("tables of a newer exo are refused, and left alone", async () => {
  await using dir = await TempDir.make();
  EventLog.open(dir.path).close();
  execute(dir.path, "PRAGMA user_version = 2");
  fails(
    () => EventLog.open(dir.path),
    "storage_failed",
    /newer exo: found version 2, at most 1 possible/,
  );
  // The refusal has let go of the file.
  execute(dir.path, "PRAGMA user_version = 1");
  EventLog.open(dir.path).close();
});

Deno.test("a snapshot of a newer exo is refused", async () => {
  await using dir = await TempDir.make();
  EventLog.open(dir.path).close();
  execute(dir.path, "INSERT INTO snapshot VALUES (1, 5, 1, 'n', 99, '{}')");
  const log = EventLog.open(dir.path);
  fails(
    () => log.replay(),
    "storage_failed",
    /its snapshot was written by a newer exo: found version 99/,
  );
  log.close();
});

Deno.test("L4: a file that is no log is damage that is named, and not touched", async () => {
  await using dir = await TempDir.make();
  const path = join(dir.path, "log.sqlite");
  await Deno.writeTextFile(path, "garbage ".repeat(1_000));
  assert.throws(() => EventLog.open(dir.path), DamagedLogError);
  fails(() => EventLog.open(dir.path), "storage_failed", /Cannot open the event log .*log\.sqlite/);
  assert.match(await Deno.readTextFile(path), /^garbage /);
});

Deno.test("an entry that cannot be read, and a gap, are an error with a hint", async () => {
  await using dir = await TempDir.make();
  let log = EventLog.open(dir.path);
  log.store([persist(indexed(EVENTS))]);
  log.close();
  execute(dir.path, "DELETE FROM events WHERE idx = 1");
  log = EventLog.open(dir.path);
  fails(() => log.replay(), "storage_failed", /Cannot replay .*log\.sqlite/);
  assert.throws(() => log.replay(), DamagedLogError);
  log.close();
  execute(dir.path, 'UPDATE events SET eventJson = \'{"type":"Nonsense"}\' WHERE idx = 0');
  log = EventLog.open(dir.path);
  fails(() => log.replay(), "storage_failed", /Cannot replay .*log\.sqlite/, /^update exo/);
  assert.throws(() => log.replay(), (thrown) => !(thrown instanceof DamagedLogError));
  log.close();
});

Deno.test("a write that the disk refuses is an error, and the log goes on", async () => {
  await using dir = await TempDir.make();
  EventLog.open(dir.path).close();
  // As SQLite does on a full disk: the whole transaction is undone before we hear of it.
  execute(
    dir.path,
    `CREATE TRIGGER full BEFORE INSERT ON events WHEN new.idx = 3
       BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END`,
  );
  const log = EventLog.open(dir.path);
  log.store([persist(indexed(EVENTS))]);
  const write = () => log.store([persist(indexed([nodeStarted(B)], 3))]);
  fails(
    write,
    "storage_failed",
    /Cannot write the event log "log.sqlite": database or disk is full, some room needed$/,
    /free space/,
  );
  assert.equal(log.nextCounter("still writable"), 1);
  assert.equal(log.replay().state.lastEventAppliedIdx, 2);
  log.close();
});

Deno.test("a write that fails is not blamed on a full disk unless it is full", async () => {
  for (const said of ["disk I/O error", "attempt to write a readonly database"]) {
    await using dir = await TempDir.make();
    EventLog.open(dir.path).close();
    const raise = `SELECT RAISE(ABORT, '${said}')`;
    execute(dir.path, `CREATE TRIGGER broken BEFORE INSERT ON events BEGIN ${raise}; END`);
    const log = EventLog.open(dir.path);
    const message = new RegExp(`: ${said}, a file needed that can be written$`);
    fails(() => log.store([persist(indexed(EVENTS))]), "storage_failed", message, /writable/);
    log.close();
  }
});

Deno.test("counters count up from 1, apart from each other, across reopening", async () => {
  await using dir = await TempDir.make();
  let log = EventLog.open(dir.path);
  assert.deepEqual([1, 2].map(() => log.nextCounter("a")), [1, 2]);
  assert.equal(log.nextCounter("b"), 1);
  log.close();
  log = EventLog.open(dir.path);
  assert.equal(log.nextCounter("a"), 3);
  log.close();
});

Deno.test("paths of models are kept beside the log, never in it", async () => {
  await using dir = await TempDir.make();
  let log = EventLog.open(dir.path);
  assert.equal(log.localPath("m"), undefined);
  log.setLocalPath("m", "/old");
  log.setLocalPath("m", "/new");
  log.close();
  log = EventLog.open(dir.path);
  assert.equal(log.localPath("m"), "/new");
  log.dropLocalPath("m");
  log.dropLocalPath("never there");
  assert.equal(log.localPath("m"), undefined);
  log.close();
});

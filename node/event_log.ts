import { statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { ZodError } from "zod";
import { apply } from "../core/apply.ts";
import { AppError } from "../core/errors.ts";
import { Event, type IndexedEvent, isDurable } from "../core/events.ts";
import type { Epoch } from "../core/lineage.ts";
import { ModelId, type NodeId } from "../core/ids.ts";
import type { Output } from "../core/member.ts";
import {
  decodeState,
  EMPTY_STATE,
  encodeState,
  type State,
  STATE_SCHEMA_VERSION,
} from "../core/state.ts";

/** Events kept after a snapshot before the next one is taken. */
export const TAIL_EVENTS_MAX = 1_000;

/** File of the log in the data directory; SQLite keeps two more beside it. */
export const LOG_FILE = "log.sqlite";

/** Version of the tables below. */
const TABLES_VERSION = 1;

const TABLES = `
  CREATE TABLE IF NOT EXISTS events (
    idx INTEGER PRIMARY KEY, epochClock INTEGER NOT NULL, epochNodeId TEXT NOT NULL,
    eventJson TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS snapshot (
    one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, epochClock INTEGER NOT NULL,
    epochNodeId TEXT NOT NULL, schemaVersion INTEGER NOT NULL, stateJson TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS branch (
    one INTEGER PRIMARY KEY CHECK (one = 1), schemaVersion INTEGER NOT NULL, stateJson TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS localModels (modelId TEXT PRIMARY KEY, path TEXT NOT NULL) STRICT;
`;

/** What an earlier process of the node has left. */
export interface Replayed {
  readonly state: State;
  /** The newest epoch that it has followed or led. */
  readonly epoch?: Epoch;
  /** The state of a side of a partition that gave way, until it is merged. */
  readonly branch?: State;
}

/** What belongs on the disk. */
export type Write = Extract<Output, { type: "Persist" | "Install" | "KeepBranch" }>;

/** That a log holds what exo never wrote: nothing in it can be relied on. */
export class DamagedLogError extends AppError {}

/** The log on disk: a snapshot and the events since (design D4), with this node's own facts. */
export class EventLog {
  readonly #db: DatabaseSync;
  readonly #path: string;
  #tailEvents = 0;

  private constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.#path = path;
  }

  /**
   * Opens the log of `dataDir`, made at the first start.
   * @throws {AppError} `conflict` when another node holds it, `storage_failed` when it cannot be
   * read or written; a `DamagedLogError` when it is no log.
   */
  static open(dataDir: string): EventLog {
    const path = join(dataDir, LOG_FILE);
    let db: DatabaseSync | undefined;
    try {
      db = new DatabaseSync(path);
      // One process at a time: the second finds the file locked.
      db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;");
      db.exec("BEGIN IMMEDIATE; COMMIT;");
      checkVersion(db, `Cannot open the event log "${path}"`);
      db.exec(TABLES);
      return new EventLog(db, path);
    } catch (cause) {
      // An open file would stay locked for whoever tries next.
      db?.close();
      if (cause instanceof AppError) throw cause;
      const message = cause instanceof Error ? cause.message : String(cause);
      if (/locked|busy/i.test(message)) {
        throw new AppError(
          "conflict",
          `Cannot open "${path}": another node uses this directory, one of its own needed`,
          {
            hint: "stop that node, or pass another --data-dir",
            cause,
          },
        );
      }
      throw unopened(path, message, cause);
    }
  }

  /**
   * The state that the log holds, the newest epoch in it, and a branch that waits to be merged.
   * @throws {AppError} `storage_failed` when it was written by a newer version, or cannot be read; a
   * `DamagedLogError` when it is damaged.
   */
  replay(): Replayed {
    let entry = "the snapshot";
    try {
      let { state, epoch } = this.#readSnapshot();
      this.#tailEvents = 0;
      entry = "the table of events";
      const rows = this.#db.prepare(
        "SELECT idx, epochClock, epochNodeId, eventJson FROM events WHERE idx > ? ORDER BY idx",
      );
      for (const row of rows.iterate(state.lastEventAppliedIdx)) {
        const idx = Number(row.idx);
        entry = `event ${idx}`;
        epoch = { clock: Number(row.epochClock), nodeId: String(row.epochNodeId) as NodeId };
        const event = Event.parse(JSON.parse(String(row.eventJson)));
        state = apply(state, { idx, epoch, event });
        this.#tailEvents++;
      }
      entry = "the branch";
      const branch = this.#readBranch();
      return { state, ...(epoch ? { epoch } : {}), ...(branch ? { branch } : {}) };
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      const message = `Cannot replay "${this.#path}": ${entry} cannot be read: ${wrong(cause)}`;
      const hint = `update exo, or ${startAnew(this.#path)}`;
      const Failure = isDamage(cause) ? DamagedLogError : AppError;
      throw new Failure("storage_failed", message, { hint, cause });
    }
  }

  /**
   * Stores what a step of the member wants on the disk, as a whole, before anybody hears of it;
   * intents are on the disk when this returns. False when there was nothing.
   * @throws {AppError} `storage_failed`; nothing is stored then.
   */
  store(writes: readonly Write[]): boolean {
    if (writes.length === 0) return false;
    const durable = writes.some((write) =>
      write.type !== "Persist" || write.events.some(({ event }) => isDurable(event))
    );
    let tailEvents = this.#tailEvents;
    this.#write(durable, () => {
      for (const write of writes) {
        if (write.type === "Persist") tailEvents += this.#append(write.events);
        else if (write.type === "KeepBranch") this.#keepBranch(write.branch);
        else {
          this.#db.exec("DELETE FROM events");
          this.#snapshot(write.state, write.epoch);
          tailEvents = 0;
        }
      }
    });
    this.#tailEvents = tailEvents;
    return true;
  }

  /** At most `limit` events from `since` on, and which is the oldest that there is. */
  events(since: number, limit: number): { oldestIdx: number | undefined; events: IndexedEvent[] } {
    const oldest = this.#db.prepare("SELECT min(idx) AS idx FROM events").get()?.idx;
    const rows = this.#db.prepare(
      "SELECT idx, epochClock, epochNodeId, eventJson FROM events WHERE idx >= ? ORDER BY idx LIMIT ?",
    ).all(since, limit);
    return {
      oldestIdx: typeof oldest === "number" ? oldest : undefined,
      events: rows.map((row) => ({
        idx: Number(row.idx),
        epoch: { clock: Number(row.epochClock), nodeId: String(row.epochNodeId) as NodeId },
        event: Event.parse(JSON.parse(String(row.eventJson))),
      })),
    };
  }

  #append(events: readonly IndexedEvent[]): number {
    const insert = this.#db.prepare(
      "INSERT INTO events (idx, epochClock, epochNodeId, eventJson) VALUES (?, ?, ?, ?)",
    );
    for (const { idx, epoch, event } of events) {
      insert.run(idx, epoch.clock, epoch.nodeId, JSON.stringify(event));
    }
    return events.length;
  }

  #keepBranch(branch: State | undefined): void {
    this.#db.exec("DELETE FROM branch");
    if (!branch) return;
    this.#db.prepare("INSERT INTO branch (one, schemaVersion, stateJson) VALUES (1, ?, ?)")
      .run(STATE_SCHEMA_VERSION, encodeState(branch));
  }

  #snapshot(state: State, epoch: Epoch): void {
    this.#db.prepare(
      `INSERT OR REPLACE INTO snapshot
         (one, idx, epochClock, epochNodeId, schemaVersion, stateJson) VALUES (1, ?, ?, ?, ?, ?)`,
    ).run(
      state.lastEventAppliedIdx,
      epoch.clock,
      epoch.nodeId,
      STATE_SCHEMA_VERSION,
      encodeState(state),
    );
  }

  /** Replaces the tail by a snapshot once it has grown long. */
  compact(state: State, epoch: Epoch): void {
    if (this.#tailEvents < TAIL_EVENTS_MAX) return;
    this.#write(true, () => {
      this.#snapshot(state, epoch);
      this.#db.prepare("DELETE FROM events WHERE idx <= ?").run(state.lastEventAppliedIdx);
    });
    this.#tailEvents = 0;
  }

  /** Counts a persistent counter up and returns it; the first value is 1. */
  nextCounter(name: string): number {
    let value = 0;
    this.#write(true, () => {
      const row = this.#db.prepare(
        `INSERT INTO counters (name, value) VALUES (?, 1)
           ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value`,
      ).get(name);
      value = Number(row?.value);
    });
    return value;
  }

  /** Where the files of a model lie on this machine; never part of the log (design, rulings). */
  localPath(modelId: string): string | undefined {
    const row = this.#db.prepare("SELECT path FROM localModels WHERE modelId = ?").get(modelId);
    return row === undefined ? undefined : String(row.path);
  }

  /** The models of which files lie on this machine. */
  localModels(): ModelId[] {
    const rows = this.#db.prepare("SELECT modelId FROM localModels ORDER BY modelId").all();
    return rows.map(({ modelId }) => ModelId.parse(modelId));
  }

  setLocalPath(modelId: string, path: string): void {
    this.#write(true, () => {
      this.#db.prepare("INSERT OR REPLACE INTO localModels (modelId, path) VALUES (?, ?)")
        .run(modelId, path);
    });
  }

  dropLocalPath(modelId: string): void {
    this.#write(true, () => {
      this.#db.prepare("DELETE FROM localModels WHERE modelId = ?").run(modelId);
    });
  }

  close(): void {
    this.#db.close();
  }

  #readSnapshot(): { state: State; epoch: Epoch | undefined } {
    const row = this.#db.prepare(
      "SELECT epochClock, epochNodeId, schemaVersion, stateJson FROM snapshot WHERE one = 1",
    ).get();
    if (!row) return { state: EMPTY_STATE, epoch: undefined };
    if (Number(row.schemaVersion) > STATE_SCHEMA_VERSION) {
      const wanted = `Cannot replay "${this.#path}"`;
      throw tooNew(`${wanted}: its snapshot`, Number(row.schemaVersion), STATE_SCHEMA_VERSION);
    }
    const epoch = { clock: Number(row.epochClock), nodeId: String(row.epochNodeId) as NodeId };
    return { state: decodeState(String(row.stateJson)), epoch };
  }

  #readBranch(): State | undefined {
    const row = this.#db.prepare("SELECT schemaVersion, stateJson FROM branch WHERE one = 1").get();
    if (!row) return undefined;
    if (Number(row.schemaVersion) > STATE_SCHEMA_VERSION) {
      const wanted = `Cannot replay "${this.#path}": its branch`;
      throw tooNew(wanted, Number(row.schemaVersion), STATE_SCHEMA_VERSION);
    }
    return decodeState(String(row.stateJson));
  }

  #write(durable: boolean, statements: () => void): void {
    this.#db.exec(`PRAGMA synchronous = ${durable ? "FULL" : "NORMAL"}`);
    try {
      this.#db.exec("BEGIN IMMEDIATE");
      statements();
      this.#db.exec("COMMIT");
    } catch (cause) {
      // On a full disk SQLite has undone the transaction by itself already.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw unwritten(cause instanceof Error ? cause.message : String(cause), cause);
    }
  }
}

/** Why the log cannot be written; without its path, since clients are told this, too. */
function unwritten(said: string, cause: unknown): AppError {
  const [needed, hint] = /full/i.test(said)
    ? [
      "some room needed",
      "free space on the disk of the node's data directory (df shows it), then ask again",
    ]
    : /constraint/i.test(said)
    ? ["entries that no other has written needed", "start the node again: it reads its log anew"]
    : [
      "a file needed that can be written",
      "make the disk of the node's data directory writable (dmesg shows its faults), then ask again",
    ];
  const message = `Cannot write the event log "${LOG_FILE}": ${said}, ${needed}`;
  return new AppError("storage_failed", message, { hint, cause });
}

/** Why the log cannot be opened; SQLite has one sentence for several reasons. */
function unopened(path: string, said: string, cause: unknown): AppError {
  const away = startAnew(path);
  const space = `free space on that disk, or name a folder on another: exo serve --data-dir DIR`;
  const writable = "name a folder that you may write to: exo serve --data-dir DIR";
  const [found, hint] = isFolder(path)
    ? ["it is a folder, a file needed", away]
    : /not a database|malformed/i.test(said)
    ? [`${said.split(":")[0]}, one of SQLite needed`, away]
    : /full/i.test(said)
    ? [`${said.split(":")[0]}, some room needed`, space]
    : [`${said.split(":")[0]}, a file needed that can be written`, writable];
  const Failure = isDamage(cause) ? DamagedLogError : AppError;
  return new Failure("storage_failed", `Cannot open the event log "${path}": ${found}`, {
    hint,
    cause,
  });
}

/** A node without its log must be another node: what it acknowledged is gone. */
function startAnew(path: string): string {
  return `move ${path} and identity.key away: the node then joins as a new one`;
}

/** Whether a log holds what exo never wrote; not when the disk fails, or a newer exo wrote it. */
function isDamage(cause: unknown): boolean {
  if (cause instanceof SyntaxError) return true;
  return cause instanceof Error &&
    /not a database|malformed|no such (table|column)|^Broken invariant/.test(cause.message);
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** What is wrong with an entry, in words. */
function wrong(cause: unknown): string {
  if (cause instanceof SyntaxError) return "it is not JSON, what exo writes needed";
  if (cause instanceof ZodError) {
    const [field] = cause.issues[0]?.path ?? [];
    return `its ${String(field ?? "content")} is not known to this version, a known one needed`;
  }
  const message = cause instanceof Error ? cause.message : String(cause);
  return `${message.replace(/^Broken invariant: /, "")}, a log as exo writes it needed`;
}

function checkVersion(db: DatabaseSync, wanted: string): void {
  const found = Number(db.prepare("PRAGMA user_version").get()?.user_version ?? 0);
  if (found > TABLES_VERSION) throw tooNew(`${wanted}: it`, found, TABLES_VERSION);
  if (found < TABLES_VERSION) db.exec(`PRAGMA user_version = ${TABLES_VERSION}`);
}

function tooNew(what: string, found: number, known: number): AppError {
  return new AppError(
    "storage_failed",
    `${what} was written by a newer exo: found version ${found}, at most ${known} possible`,
    {
      hint: "update exo to the version that wrote it, or start anew with: exo serve --data-dir DIR",
    },
  );
}

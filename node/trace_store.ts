import { join } from "node:path";
import { getLogger } from "@logtape/logtape";
import { TaskId } from "../core/ids.ts";
import {
  ChromeTrace,
  fromChromeTrace,
  isTraceId,
  type Span,
  toChromeTrace,
  type TraceEntry,
} from "../core/trace.ts";
import { systemReason } from "./system_error.ts";

const log = getLogger(["exo", "traces"]);

/** Traces that are kept: the newest. */
export const TRACES_MAX = 500;

/** Traces that may wait for a slow disk; further ones are lost, and the log says so. */
export const TRACES_UNWRITTEN_MAX = 64;

/** What a store may be given. */
export interface TraceStoreOptions {
  readonly tracesMax?: number;
  readonly unwrittenMax?: number;
}

/** The traces of this node, `trace_<taskId>.json` each, in a folder that comes with the first. */
export class TraceStore {
  readonly #folder: string;
  readonly #tracesMax: number;
  readonly #unwrittenMax: number;
  #unwritten = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    folder: string,
    { tracesMax = TRACES_MAX, unwrittenMax = TRACES_UNWRITTEN_MAX }: TraceStoreOptions = {},
  ) {
    this.#folder = folder;
    this.#tracesMax = tracesMax;
    this.#unwrittenMax = unwrittenMax;
  }

  /** Writes a rank's spans beside those that other ranks have told, in the background. */
  save(taskId: TaskId, spans: readonly Span[]): void {
    if (!isTraceId(taskId)) return log.warn("cannot name a trace after {taskId}", { taskId });
    if (this.#unwritten >= this.#unwrittenMax) {
      return log.warn("lost the trace of {taskId}: {count} others are not written yet", {
        taskId,
        count: this.#unwritten,
      });
    }
    this.#unwritten++;
    this.#writing = this.#writing.then(() => this.#write(taskId, spans)).catch((cause) =>
      log.warn("cannot write the trace of {taskId} to {folder}: {reason}", {
        taskId,
        folder: this.#folder,
        reason: systemReason(cause),
      })
    ).finally(() => this.#unwritten--);
  }

  /** Resolves once all that was saved is written, or the log says why not. */
  flush(): Promise<void> {
    return this.#writing;
  }

  /** All traces, newest first. */
  async list(): Promise<TraceEntry[]> {
    const entries: TraceEntry[] = [];
    for (const taskId of await this.#taskIds()) {
      const file = await this.#ifThere(Deno.stat(this.#path(taskId)));
      if (file) entries.push({ taskId, createdAt: file.mtime?.getTime() ?? 0, bytes: file.size });
    }
    return entries.sort((a, b) => b.createdAt - a.createdAt || compare(a.taskId, b.taskId));
  }

  /** The spans of a task in the order of their starts; undefined when it has none here. */
  async read(taskId: TaskId): Promise<Span[] | undefined> {
    if (!isTraceId(taskId)) return undefined;
    const text = await this.#ifThere(Deno.readTextFile(this.#path(taskId)));
    return text === undefined ? undefined : fromChromeTrace(ChromeTrace.parse(JSON.parse(text)));
  }

  /** Deletes a trace; false when there was none. */
  async remove(taskId: TaskId): Promise<boolean> {
    if (!isTraceId(taskId)) return false;
    const removed = Deno.remove(this.#path(taskId)).then(() => true);
    return await this.#ifThere(removed) ?? false;
  }

  async #write(taskId: TaskId, spans: readonly Span[]): Promise<void> {
    await Deno.mkdir(this.#folder, { recursive: true });
    const all = [...await this.read(taskId) ?? [], ...spans];
    // Written beside and renamed, so that nobody reads a half; one name, since one is written at
    // a time, so that a full disk is left no more than one.
    const fresh = join(this.#folder, "unfinished.new");
    await Deno.writeTextFile(fresh, JSON.stringify(toChromeTrace(all)));
    await Deno.rename(fresh, this.#path(taskId));
    if ((await this.#taskIds()).length <= this.#tracesMax) return;
    for (const old of (await this.list()).slice(this.#tracesMax)) await this.remove(old.taskId);
  }

  #path(taskId: TaskId): string {
    return join(this.#folder, `trace_${taskId}.json`);
  }

  async #taskIds(): Promise<TaskId[]> {
    const names = await this.#ifThere(Array.fromAsync(Deno.readDir(this.#folder))) ?? [];
    return names.flatMap(({ name }) => {
      const taskId = /^trace_(.+)\.json$/.exec(name)?.[1];
      return taskId !== undefined && isTraceId(taskId) ? [TaskId.parse(taskId)] : [];
    });
  }

  async #ifThere<T>(found: Promise<T>): Promise<T | undefined> {
    try {
      return await found;
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return undefined;
      throw cause;
    }
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

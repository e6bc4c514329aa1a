import { statfs } from "node:fs/promises";
import { cpus } from "node:os";
import type { NodeDisk } from "../../core/telemetry.ts";
import type { Millis } from "../../core/units.ts";
import { SYSTEM_CLOCK } from "../clock.ts";
import {
  type CommandFailure,
  type CommandResult,
  type CommandWords,
  followCommand,
  runCommand,
} from "./command.ts";
import type { CoreTimes } from "./cpu_usage.ts";

/** What a node reads of its machine; tests bring machines of their own. */
export interface InfoSources {
  readonly os: string;
  /** Such as `x86_64`. */
  readonly arch: string;
  /** A variable of the node's environment. */
  env(name: string): string | undefined;
  hostname(): string;
  /** Release of the kernel. */
  osRelease(): string;
  /** The text of a file; undefined when it cannot be read. */
  readText(path: string): Promise<string | undefined>;
  /** Names in a folder; none when it cannot be read. */
  list(folder: string): Promise<readonly string[]>;
  /** Where a symbolic link leads; undefined when it is none. */
  linkTarget(path: string): Promise<string | undefined>;
  run(
    words: CommandWords,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<CommandResult>;
  follow(
    words: CommandWords,
    options: {
      readonly silenceMs: number;
      readonly signal: AbortSignal;
      readonly onLine: (line: string) => void;
    },
  ): Promise<CommandFailure>;
  networkInterfaces(): readonly { readonly name: string; readonly address: string }[];
  coreTimes(): readonly CoreTimes[];
  /** @throws when there is no such folder. */
  disk(folder: string): Promise<NodeDisk>;
  uptime(): Millis;
  /** Resolves after `ms`, or at once when `signal` says so. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

/** The machine that this process runs on. */
export const SYSTEM_SOURCES: InfoSources = {
  os: Deno.build.os,
  arch: Deno.build.arch,
  env: (name) => Deno.env.get(name),
  hostname: () => Deno.hostname(),
  osRelease: () => Deno.osRelease(),
  readText: (path) => Deno.readTextFile(path).catch(() => undefined),
  list,
  linkTarget: (path) => Deno.readLink(path).catch(() => undefined),
  run: runCommand,
  follow: followCommand,
  networkInterfaces: () => Deno.networkInterfaces(),
  coreTimes: () =>
    cpus().map(({ times: { user, nice, sys, irq, idle } }) => {
      const busy = user + nice + sys + irq;
      return { busy, total: busy + idle };
    }),
  disk,
  uptime: () => SYSTEM_CLOCK.uptime(),
  wait,
};

async function list(folder: string): Promise<readonly string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) names.push(name);
  } catch {
    // Another system, or another kernel.
  }
  return names.sort();
}

async function disk(folder: string): Promise<NodeDisk> {
  const { bsize, blocks, bavail } = await statfs(folder);
  return { totalBytes: bsize * blocks, availableBytes: bsize * bavail };
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

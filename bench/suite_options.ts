import { basename } from "node:path";
import { parseArgs } from "node:util";
import { AppError } from "../core/errors.ts";
import { PEER_NAMES, type PeerName } from "./peers/peer.ts";

/** What `deno task bench` was asked for. */
export interface SuiteOptions {
  readonly peers: readonly PeerName[];
  /** A GGUF file; undefined takes the default model. */
  readonly model: string | undefined;
  readonly rounds: number;
  readonly warmup: number;
  readonly threads: number;
  readonly pp: number;
  readonly tg: number;
  readonly concurrency: readonly number[];
  /** Starts of a node without a model. */
  readonly starts: number;
  readonly idleSeconds: number;
  /** Where peers are installed; undefined takes a folder in exo's cache. */
  readonly peersDir: string | undefined;
  /** Whether the result is kept and the page written. */
  readonly write: boolean;
}

const NUMBER_MAX = 1_000_000;

/** Defaults that a CPU without fast kernels gets through in some minutes. */
const DEFAULTS = { rounds: 3, warmup: 1, pp: 64, tg: 16, starts: 7, idle: 20 } as const;

const text = (value: number) => ({ type: "string", default: String(value) }) as const;

/** The flags as options; `cores` is the default of `--threads`. @throws {AppError} `usage`. */
export function suiteOptions(args: readonly string[], cores: number): SuiteOptions {
  const values = valuesOf(args, cores);
  return {
    peers: [...new Set(values.peer)].map(peerNamed),
    model: values.model,
    rounds: numberFlag("rounds", values.rounds, 1),
    warmup: numberFlag("warmup", values.warmup, 0),
    threads: numberFlag("threads", values.threads, 1),
    pp: numberFlag("pp", values.pp, 1),
    tg: numberFlag("tg", values.tg, 1),
    concurrency: numberListFlag("concurrency", values.concurrency),
    starts: numberFlag("starts", values.starts, 1),
    idleSeconds: numberFlag("idle", values.idle, 1),
    peersDir: values["peers-dir"],
    write: values.write,
  };
}

/** The command that asks for the same; folders are left out, since they are of one machine. */
export function commandOf(options: SuiteOptions): string {
  const { peers, model, rounds, warmup, threads, pp, tg, concurrency, starts } = options;
  const flags = [
    ...peers.map((peer) => `--peer ${peer}`),
    ...(model === undefined ? [] : [`--model ${basename(model)}`]),
    ...[`--rounds ${rounds}`, `--warmup ${warmup}`, `--threads ${threads}`],
    ...[`--pp ${pp}`, `--tg ${tg}`, `--concurrency ${concurrency.join(",")}`],
    ...[`--starts ${starts}`, `--idle ${options.idleSeconds}`],
    ...(options.write ? ["--write"] : []),
  ];
  return ["deno task bench", ...flags].join(" ");
}

function valuesOf(args: readonly string[], cores: number) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        peer: { type: "string", multiple: true, default: [] },
        model: { type: "string" },
        rounds: text(DEFAULTS.rounds),
        warmup: text(DEFAULTS.warmup),
        threads: text(cores),
        pp: text(DEFAULTS.pp),
        tg: text(DEFAULTS.tg),
        concurrency: text(1),
        starts: text(DEFAULTS.starts),
        idle: text(DEFAULTS.idle),
        "peers-dir": { type: "string" },
        write: { type: "boolean", default: false },
      },
    }).values;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("usage", `Cannot read the flags: ${reason}`, {
      hint: "docs/performance.md shows a command with its flags",
      cause,
    });
  }
}

function peerNamed(name: string): PeerName {
  const found = PEER_NAMES.find((one) => one === name);
  if (found) return found;
  throw new AppError("usage", `Cannot use --peer "${name}": ${PEER_NAMES.join(" or ")} needed`, {
    hint: "give --peer once for each: --peer mlx-lm --peer llama.cpp",
  });
}

/** The numbers from 1 on of a flag such as `1,4`, each once. @throws {AppError} `usage`. */
export function numberListFlag(flag: string, words: string): number[] {
  return [...new Set(words.split(",").map((one) => numberFlag(flag, one, 1)))];
}

/** The whole number of a flag, `min` at least. @throws {AppError} `usage`. */
export function numberFlag(flag: string, word: string, min: number): number {
  const value = /^\d+$/.test(word) ? Number(word) : NaN;
  if (value >= min && value <= NUMBER_MAX) return value;
  const needed = `a whole number from ${min} to ${NUMBER_MAX} needed`;
  throw new AppError("usage", `Cannot use --${flag} "${word}": ${needed}`, {
    hint: `as in --${flag} ${Math.max(min, 4)}`,
  });
}

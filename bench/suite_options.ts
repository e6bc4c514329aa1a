import { basename } from "node:path";
import { parseArgs } from "node:util";
import { choiceFlag, numberFlag, numberListFlag, readFlags } from "./flags.ts";
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
  const parse = () =>
    parseArgs({
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
  return readFlags(parse, "docs/performance.md shows a command with its flags");
}

function peerNamed(name: string): PeerName {
  const hint = "give --peer once for each: --peer mlx-lm --peer llama.cpp";
  return choiceFlag("peer", name, { choices: PEER_NAMES, hint });
}

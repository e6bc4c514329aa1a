import { basename } from "node:path";
import { parseArgs } from "node:util";
import { AppError } from "../core/errors.ts";
import { numberFlag, numberListFlag } from "./flags.ts";

/** What `deno task bench:serving` was asked for. */
export interface ServingOptions {
  /** A GGUF file; undefined takes the default model. */
  readonly model: string | undefined;
  readonly rounds: number;
  readonly threads: number;
  /** Tokens of the prompt and the answer of each stream. */
  readonly pp: number;
  readonly tg: number;
  /** Tokens of the long prompt. */
  readonly longPp: number;
  /** Streams at once. */
  readonly concurrency: readonly number[];
  /** Where llama.cpp is installed; undefined takes a folder in exo's cache. */
  readonly peersDir: string | undefined;
  /** Whether the result is kept and the page written. */
  readonly write: boolean;
}

/** The flags as options; `cores` is the default of `--threads`. @throws {AppError} `usage`. */
export function servingOptions(args: readonly string[], cores: number): ServingOptions {
  const values = valuesOf(args, cores);
  return {
    model: values.model,
    rounds: numberFlag("rounds", values.rounds, 1),
    threads: numberFlag("threads", values.threads, 1),
    pp: numberFlag("pp", values.pp, 1),
    tg: numberFlag("tg", values.tg, 1),
    longPp: numberFlag("long-pp", values["long-pp"], 1),
    concurrency: numberListFlag("concurrency", values.concurrency),
    peersDir: values["peers-dir"],
    write: values.write,
  };
}

/** The command that asks for the same; folders are left out, since they are of one machine. */
export function commandOf(options: ServingOptions): string {
  const { model, rounds, threads, pp, tg, longPp, concurrency, write } = options;
  const flags = [
    ...(model === undefined ? [] : [`--model ${basename(model)}`]),
    ...[`--rounds ${rounds}`, `--threads ${threads}`, `--pp ${pp}`, `--tg ${tg}`],
    ...[`--long-pp ${longPp}`, `--concurrency ${concurrency.join(",")}`],
    ...(write ? ["--write"] : []),
  ];
  return ["deno task bench:serving", ...flags].join(" ");
}

function valuesOf(args: readonly string[], cores: number) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        rounds: { type: "string", default: "3" },
        threads: { type: "string", default: String(cores) },
        pp: { type: "string", default: "64" },
        tg: { type: "string", default: "128" },
        "long-pp": { type: "string", default: "2000" },
        concurrency: { type: "string", default: "1,4,8,16" },
        "peers-dir": { type: "string" },
        write: { type: "boolean", default: false },
      },
    }).values;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("usage", `Cannot read the flags: ${reason}`, {
      hint: "as in --rounds 3 --pp 64 --tg 128 --long-pp 2000 --concurrency 1,4,8,16",
      cause,
    });
  }
}

import { basename } from "node:path";
import { parseArgs } from "node:util";
import { choiceFlag, numberFlag, numberListFlag, readFlags } from "./flags.ts";
import { INSTRUCTIONS, type Instructions } from "./peers/llama_cpp.ts";
import { SYNTHETIC_500M } from "./synthetic_model.ts";

/** What `deno task bench:engine` was asked for. */
export interface EngineOptions {
  /** A GGUF file, or the name of the synthetic model; undefined takes the default model. */
  readonly model: string | undefined;
  readonly rounds: number;
  /** Numbers of threads, each measured in each round. */
  readonly threads: readonly number[];
  readonly pp: number;
  readonly tg: number;
  /** Sequences at once, with the most threads. */
  readonly concurrency: readonly number[];
  /** Which instructions both use: of the machine's own, or fewer. */
  readonly instructions: Instructions;
  /** Where llama.cpp is installed; undefined takes a folder in exo's cache. */
  readonly peersDir: string | undefined;
  /** Whether the result is kept and the page written. */
  readonly write: boolean;
}

/** The flags as options; `cores` is the most threads of the default. @throws {AppError} `usage`. */
export function engineOptions(args: readonly string[], cores: number): EngineOptions {
  const values = valuesOf(args, cores);
  return {
    model: values.model,
    rounds: numberFlag("rounds", values.rounds, 1),
    threads: numberListFlag("threads", values.threads),
    pp: numberFlag("pp", values.pp, 1),
    tg: numberFlag("tg", values.tg, 2),
    concurrency: numberListFlag("concurrency", values.concurrency),
    instructions: instructionsOf(values.instructions),
    peersDir: values["peers-dir"],
    write: values.write,
  };
}

/** The command that asks for the same; folders are left out, since they are of one machine. */
export function commandOf(options: EngineOptions): string {
  const { model, rounds, threads, pp, tg, concurrency, instructions, write } = options;
  const flags = [
    ...(model === undefined ? [] : [`--model ${basename(model)}`]),
    ...[`--rounds ${rounds}`, `--threads ${threads.join(",")}`, `--pp ${pp}`, `--tg ${tg}`],
    `--concurrency ${concurrency.join(",")}`,
    ...(instructions === "native" ? [] : [`--instructions ${instructions}`]),
    ...(write ? ["--write"] : []),
  ];
  return ["deno task bench:engine", ...flags].join(" ");
}

function instructionsOf(wanted: string): Instructions {
  const hint = "as in --instructions avx2";
  return choiceFlag("instructions", wanted, { choices: INSTRUCTIONS, hint });
}

function valuesOf(args: readonly string[], cores: number) {
  const parse = () =>
    parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        rounds: { type: "string", default: "5" },
        threads: { type: "string", default: [...new Set([1, cores])].join(",") },
        pp: { type: "string", default: "512" },
        tg: { type: "string", default: "64" },
        concurrency: { type: "string", default: "4,8" },
        instructions: { type: "string", default: "native" },
        "peers-dir": { type: "string" },
        write: { type: "boolean", default: false },
      },
    }).values;
  const { name } = SYNTHETIC_500M;
  return readFlags(parse, `as in --model ${name} --rounds 3 --threads 1,2 --concurrency 4,8`);
}

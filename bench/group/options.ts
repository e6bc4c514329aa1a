import { basename } from "node:path";
import { parseArgs } from "node:util";
import { choiceFlag, numberFlag, readFlags } from "../flags.ts";
import { type Program, PROGRAMS } from "./player.ts";
import type { GroupSettings } from "./report.ts";

/** What `deno task bench:group` was asked for. */
export interface GroupOptions extends GroupSettings {
  /** A GGUF file; undefined takes the default model. */
  readonly model: string | undefined;
  readonly programs: readonly Program[];
  /** Where llama.cpp is installed; undefined takes a folder in exo's cache. */
  readonly peersDir: string | undefined;
  /** Whether the result is kept and the page written. */
  readonly write: boolean;
}

/** The flags as options; two machines share the cores unless they say. @throws {AppError} `usage`. */
export function groupOptions(args: readonly string[], cores: number): GroupOptions {
  const values = valuesOf(args, Math.max(1, Math.floor(cores / 2)));
  const hint = "leave --only out for both";
  return {
    model: values.model,
    programs: values.only === undefined
      ? PROGRAMS
      : [choiceFlag("only", values.only, { choices: PROGRAMS, hint })],
    rounds: numberFlag("rounds", values.rounds, 1),
    threads: numberFlag("threads", values.threads, 1),
    tg: numberFlag("tg", values.tg, 2),
    streams: numberFlag("streams", values.streams, 2),
    delayMs: numberFlag("delay-ms", values["delay-ms"], 1),
    peersDir: values["peers-dir"],
    write: values.write,
  };
}

/** The command that asks for the same; folders are left out, since they are of one machine. */
export function commandOf(options: GroupOptions): string {
  const { model, programs, rounds, threads, tg, streams, delayMs, write } = options;
  const flags = [
    ...(model === undefined ? [] : [`--model ${basename(model)}`]),
    ...(programs.length === PROGRAMS.length ? [] : [`--only ${programs.join()}`]),
    ...[`--rounds ${rounds}`, `--threads ${threads}`, `--tg ${tg}`],
    ...[`--streams ${streams}`, `--delay-ms ${delayMs}`],
    ...(write ? ["--write"] : []),
  ];
  return ["deno task bench:group", ...flags].join(" ");
}

function valuesOf(args: readonly string[], threads: number) {
  const parse = () =>
    parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        only: { type: "string" },
        rounds: { type: "string", default: "3" },
        threads: { type: "string", default: `${threads}` },
        tg: { type: "string", default: "128" },
        streams: { type: "string", default: "4" },
        "delay-ms": { type: "string", default: "1" },
        "peers-dir": { type: "string" },
        write: { type: "boolean", default: false },
      },
    }).values;
  return readFlags(parse, "as in --rounds 3 --threads 1 --tg 128 --streams 4 --delay-ms 1");
}

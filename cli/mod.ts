/**
 * What a person types. The only room that may import every other, imported by `main.ts` alone.
 * Read `command.ts` first: one schema gives a subcommand its flags, help and docs.
 */
import type { Io } from "./io.ts";
import type { Row } from "./program.ts";
import { VERSION } from "./version.ts";

/** All subcommands; the file of one is read only when it is asked for. */
export const COMMANDS: readonly Row[] = [
  {
    name: "demo",
    summary: "Set up, start a node, load a real model and stream an answer",
    load: async () => (await import("./demo.ts")).demo,
  },
  {
    name: "serve",
    summary: "Run a node on this machine",
    load: async () => (await import("./serve.ts")).serve,
  },
  {
    name: "run",
    summary: "Ask a model one question, or chat with it",
    load: async () => (await import("./run.ts")).run,
  },
  {
    name: "place",
    summary: "Show where a model could go, and why not elsewhere",
    load: async () => (await import("./place.ts")).place,
  },
  {
    name: "instance",
    summary: "Create, follow and delete instances of models",
    load: async () => (await import("./instance.ts")).instance,
  },
  {
    name: "meta-instance",
    summary: "Keep instances of models running, whatever fails",
    load: async () => (await import("./meta_instance.ts")).metaInstance,
  },
  {
    name: "models",
    summary: "List, add, show and remove models",
    load: async () => (await import("./models.ts")).models,
  },
  {
    name: "status",
    summary: "Show nodes, links, instances and tasks",
    load: async () => (await import("./status.ts")).status,
  },
  {
    name: "cluster",
    summary: "Make what the nodes of a cluster share",
    load: async () => (await import("./cluster.ts")).cluster,
  },
  {
    name: "bench",
    summary: "Measure how fast a model reads prompts and writes answers",
    load: async () => (await import("./bench.ts")).bench,
  },
  {
    name: "setup",
    summary: "Fetch MLX and compile the shim for this machine",
    load: async () => (await import("./setup.ts")).setup,
  },
  {
    name: "completions",
    summary: "Print a script that completes exo in a shell",
    load: async () => (await import("./completions.ts")).completions,
  },
  {
    name: "runner",
    summary: "Run this binary as the runner of one rank",
    isHidden: true,
    load: async () => (await import("./runner.ts")).runner,
  },
];

/** Runs what `argv` asks for and gives the exit code of design §4. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  if (asksVersion(argv)) return printVersion(argv, io);
  // Read only now: the parser and the schemas cost more than the version does.
  const { runProgram } = await import("./program.ts");
  return await runProgram(COMMANDS, argv, io);
}

/** Only before a subcommand: after one it may be a word of a prompt. */
function asksVersion(argv: readonly string[]): boolean {
  const isVersion = (word: string) => word === "--version" || word === "-V";
  return argv.some(isVersion) && argv.every((word) => isVersion(word) || word === "--json");
}

function printVersion(argv: readonly string[], io: Io): number {
  const isJson = argv.includes("--json");
  io.stdout.write(isJson ? `${JSON.stringify({ version: VERSION })}\n` : `exo ${VERSION}\n`);
  return 0;
}

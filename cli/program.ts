import { Command as Commander, CommanderError, Option } from "commander";
import { ApiClient, DEFAULT_URL } from "../api/client.ts";
import { isLoopback, requireUsableKey } from "../api/guard.ts";
import { AppError, ERRORS, toAppError } from "../core/errors.ts";
import { apiKeyFile, directories } from "../core/directories.ts";
import type { Command, CommandGroup } from "./command.ts";
import { type Flag, helpOf, spelled } from "./flags.ts";
import type { Io } from "./io.ts";
import { Output, tellError } from "./output.ts";
import { usageOf, withHint } from "./usage_error.ts";

/** A row of the table of subcommands. */
export interface Row {
  readonly name: string;
  readonly summary: string;
  readonly isHidden?: boolean;
  load(): Promise<Command | CommandGroup>;
}

/** What one run of the program leaves behind. */
interface Run {
  code: number;
  /** Whether stderr is for one error alone. */
  readonly isJson: boolean;
  /** What was named, once it is loaded. */
  entry?: Command | CommandGroup;
}

/** Flags of every command, which may also stand before its name. */
const COMMON = {
  json: { flags: "--json", description: "Print one line of JSON, for programs" },
  url: {
    flags: "--url <URL>",
    description: `Node to ask (default: ${DEFAULT_URL}) [EXO_URL]`,
  },
  apiKey: {
    flags: "--api-key <KEY>",
    description: "API key of that node; one on this machine needs none [EXO_API_KEY]",
  },
} as const;

const VERSION_FLAG = { flags: "-V, --version", description: "Print the version" };

/** Those of them that a value follows. */
const WITH_VALUE = new Set(["--url", "--api-key"]);

/** Runs what `argv` asks for; the exit code comes back, and errors are told on stderr. */
export async function runProgram(
  rows: readonly Row[],
  argv: readonly string[],
  io: Io,
): Promise<number> {
  const words = helpAsFlag(argv);
  const run: Run = { code: 0, isJson: words.includes("--json") };
  try {
    const [name] = namesIn(words);
    const program = await buildProgram(rows, name, io, run);
    const parsed = isKnown(words, run.entry) ? words : words.filter((word) => !isHelp(word));
    await program.parseAsync([...parsed], { from: "user" });
    return run.code;
  } catch (error) {
    return report(error, io, { argv: words, help: helpHint(words, run.entry) });
  }
}

/** `exo help run` is `exo run --help`. */
function helpAsFlag(argv: readonly string[]): readonly string[] {
  return argv[0] === "help" ? [...argv.slice(1), "--help"] : argv;
}

/** The words that are no flags nor their values: the command, then its own words. */
function namesIn(argv: readonly string[]): string[] {
  return argv.filter((word, i) => !word.startsWith("-") && !WITH_VALUE.has(argv[i - 1] ?? ""));
}

/** Whether what is named exists, so that its help can be shown. */
function isKnown(argv: readonly string[], entry: Run["entry"]): boolean {
  const [name, ...subcommands] = namesIn(argv);
  return entry === undefined ? name === undefined : hasAll(entry, subcommands);
}

function hasAll(entry: Command | CommandGroup, [name, ...more]: readonly string[]): boolean {
  if (entry.kind === "command" || name === undefined) return true;
  const found = entry.commands.find((one) => one.name === name);
  return found !== undefined && hasAll(found, more);
}

function isHelp(word: string): boolean {
  return word === "--help" || word === "-h";
}

async function buildProgram(
  rows: readonly Row[],
  wanted: string | undefined,
  io: Io,
  run: Run,
): Promise<Commander> {
  const program = quiet(new Commander("exo"), io, run)
    .description("Turn your machines into one AI cluster")
    .usage("COMMAND [ARGUMENTS]")
    .option(VERSION_FLAG.flags, VERSION_FLAG.description);
  // Hidden here: each command that knows them shows them.
  for (const { flags, description } of Object.values(COMMON)) {
    program.addOption(new Option(flags, description).hideHelp());
  }
  for (const row of rows) {
    const visibility = { hidden: row.isHidden ?? false };
    if (row.name === wanted) {
      run.entry = await row.load();
      program.addCommand(build(run.entry, io, run), visibility);
    } else program.command(row.name, visibility).description(row.summary);
  }
  return program.addHelpText("after", "\nRun exo COMMAND --help for what a command takes.");
}

function build(
  entry: Command | CommandGroup,
  io: Io,
  run: Run,
  path: string = entry.name,
): Commander {
  if (entry.kind === "command") return buildCommand(entry, io, run);
  const group = quiet(new Commander(entry.name), io, run)
    .description(entry.summary)
    .usage("COMMAND [ARGUMENTS]");
  for (const one of entry.commands) group.addCommand(build(one, io, run, `${path} ${one.name}`));
  return group.addHelpText("after", `\nRun exo ${path} COMMAND --help for more on one.`);
}

function buildCommand(command: Command, io: Io, run: Run): Commander {
  const { name, summary, description, examples, flags, positionals, isLocal } = command;
  const places = positionals.map(placeholder).map((place) => `${place} `).join("");
  const made = quiet(new Commander(name), io, run)
    .summary(summary)
    .usage(`${places}[FLAGS]`)
    .description(description ? `${summary}. ${description}` : summary);
  for (const place of positionals) made.argument(placeholder(place), helpOf(place));
  for (const flag of flags) made.addOption(optionOf(flag));
  for (const { flags, description } of commonFlags(command)) made.option(flags, description);
  made.addHelpText("after", examplesText(examples));
  return made.action(async () => {
    const typed: Record<string, unknown> = { ...made.optsWithGlobals() };
    // An absent `--no-…` reads as true; it was not typed, so the environment still counts.
    for (const { key } of flags) {
      if (made.getOptionValueSource(key) === "default") delete typed[key];
    }
    positionals.forEach(({ key }, index) => typed[key] = made.processedArgs[index]);
    if (isLocal) refuseClientFlags(command, typed);
    run.code = await command.execute(typed, contextOf(typed, io));
  });
}

/** The common flags that a command takes. */
export function commonFlags({ isLocal, flags }: Command) {
  const own = new Set(flags.map(({ key }) => key));
  const { json, url, apiKey } = COMMON;
  return isLocal ? (own.has("json") ? [] : [json]) : [json, url, apiKey];
}

/** The flags that may stand before the name of a command. */
export function programFlags() {
  return [...Object.values(COMMON), VERSION_FLAG];
}

function refuseClientFlags({ name, flags }: Command, typed: Record<string, unknown>): void {
  const own = new Set(flags.map(({ key }) => key));
  const foreign = (["url", "apiKey"] as const)
    .find((key) => typed[key] !== undefined && !own.has(key));
  if (!foreign) return;
  const [flag] = COMMON[foreign].flags.split(" ");
  throw new AppError(
    "usage",
    `Cannot use ${flag} with exo ${name}: it asks no other node, so none is needed`,
    { hint: `leave ${flag} out` },
  );
}

/** How a place is shown: `<MODEL>`, or `[PROMPT]` when it may be left out. */
export function placeholder({ key, isRequired, isList }: Flag): string {
  const name = `${key.toUpperCase()}${isList ? "..." : ""}`;
  return isRequired ? `<${name}>` : `[${name}]`;
}

function optionOf(flag: Flag): Option {
  const short = flag.short ? `-${flag.short}, ` : "";
  const value = flag.kind === "boolean" ? "" : ` <${flag.value}>`;
  const option = new Option(`${short}${spelled(flag)}${value}`, helpOf(flag));
  if (flag.isRequired) option.makeOptionMandatory();
  if (flag.group) option.helpGroup(flag.group);
  if (!flag.isList) return option;
  return option.argParser((value: string, before: string[] = []) => [...before, value]);
}

/** The examples as the help shows them. */
export function examplesText(examples: readonly string[]): string {
  return `\nExamples:\n${examples.map((line) => `  exo ${line}`).join("\n")}`;
}

/** A command that ends nothing and prints only its help; errors are ours to tell. */
function quiet(command: Commander, io: Io, { isJson }: Run): Commander {
  command.helpOption("-h, --help", "Show this").helpCommand(false);
  command.configureHelp({ subcommandTerm: termOf });
  return command.exitOverride().configureOutput({
    writeOut: (text) => io.stdout.write(text),
    writeErr: (text) => isJson || io.stderr.write(text),
    outputError: () => {},
    getOutHelpWidth: () => io.stdout.columns,
    getErrHelpWidth: () => io.stderr.columns,
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  });
}

/** A command in the list of a group: its name and places, without the flags. */
function termOf(command: Commander): string {
  const places = command.registeredArguments
    .map((place) => place.required ? `<${place.name()}>` : `[${place.name()}]`);
  return [command.name(), ...places].join(" ");
}

function contextOf(typed: Record<string, unknown>, io: Io) {
  let client: ApiClient | undefined;
  return {
    io,
    signal: io.signal,
    out: new Output(io, { isJson: typed["json"] === true }),
    isUrlGiven: Boolean(typed["url"] ?? io.env["EXO_URL"]),
    connect: (signal: AbortSignal) => clientOf(typed, io, signal),
    get client() {
      return client ??= clientOf(typed, io, io.signal);
    },
  };
}

function clientOf(typed: Record<string, unknown>, io: Io, signal: AbortSignal): ApiClient {
  const url = String(typed["url"] ?? (io.env["EXO_URL"] || DEFAULT_URL));
  const source = typed["url"] === undefined ? "EXO_URL" : "--url";
  const parsed = URL.parse(url);
  if (!parsed || !/^https?:$/.test(parsed.protocol)) {
    throw new AppError("usage", `Cannot use ${source} "${url}": http://HOST:PORT needed`, {
      hint: `the default is ${DEFAULT_URL}; write yours like it`,
    });
  }
  const apiKey = typed["apiKey"] ?? (io.env["EXO_API_KEY"] || localKey(parsed, io));
  if (apiKey !== undefined) requireUsableKey(String(apiKey));
  return new ApiClient({
    url,
    apiKey: apiKey === undefined ? undefined : String(apiKey),
    signal,
  });
}

/** The key that a node of this machine left for us; sent to this machine only. */
function localKey({ hostname }: URL, io: Io): string | undefined {
  const host = hostname.replace(/^\[|\]$/g, "");
  if (host !== "localhost" && !isLoopback(host)) return undefined;
  return io.readFile(apiKeyFile(directories(io)))?.trim() || undefined;
}

/** Tells what went wrong, in words or as JSON; the exit code comes back. */
function report(
  thrown: unknown,
  io: Io,
  { argv, help }: { argv: readonly string[]; help: string },
): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
  // Whoever read our output has closed it: they have what they wanted.
  if (thrown instanceof Deno.errors.BrokenPipe) return 0;
  const known = thrown instanceof CommanderError ? usageOf(thrown, help) : toAppError(thrown);
  if (io.signal.aborted) return ERRORS.cancelled.exit;
  const error = known.code === "usage" ? withHint(known, help) : known;
  const isJson = argv.includes("--json");
  // The help of what was called without a subcommand says enough.
  if (!isJson && thrown instanceof CommanderError && thrown.code === "commander.help") {
    return ERRORS.usage.exit;
  }
  if (isJson) io.stderr.write(`${JSON.stringify({ error: error.toInfo() })}\n`);
  else tellError(error, io);
  return ERRORS[error.code].exit;
}

/** The help of what was called, as far as it exists. */
function helpHint(argv: readonly string[], entry: Run["entry"]): string {
  if (!entry) return "exo --help";
  const words = [entry.name];
  for (let at: Command | CommandGroup | undefined = entry; at?.kind === "group";) {
    at = at.commands.find(({ name }) => argv.includes(name));
    if (at) words.push(at.name);
  }
  return `exo ${words.join(" ")} --help`;
}

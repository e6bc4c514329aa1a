import type { Command, CommandGroup } from "./command.ts";
import { type Flag, spelled } from "./flags.ts";
import { commonFlags, programFlags, type Row } from "./program.ts";

/** What may stand for a value: nothing at all, a word, one of some words, a file, a folder. */
export type Value = "none" | "word" | "file" | "folder" | readonly string[];

/** A flag, as completions offer it. */
export interface OfferedFlag {
  /** `--verbose`. */
  readonly long: string;
  /** `-v`. */
  readonly short: string | undefined;
  readonly description: string;
  readonly isList: boolean;
  readonly value: Value;
  /** What the value is called: `DIR`. */
  readonly label: string;
}

/** An argument that is given by place. */
export interface OfferedPlace {
  readonly label: string;
  readonly isList: boolean;
  readonly value: Value;
}

/** What may follow one command, group, or `exo` itself. */
export interface Offer {
  /** `exo instance create`. */
  readonly path: string;
  readonly subcommands: readonly { readonly name: string; readonly summary: string }[];
  readonly flags: readonly OfferedFlag[];
  readonly places: readonly OfferedPlace[];
}

const HELP = { flags: "-h, --help", description: "Show help" };

/** All that can be typed, out of the table of subcommands; `exo` itself comes first. */
export async function offersOf(rows: readonly Row[]): Promise<Offer[]> {
  const shown = rows.filter(({ isHidden }) => !isHidden);
  const entries = await Promise.all(shown.map((row) => row.load()));
  const flags = [...programFlags(), HELP].map(offeredText);
  const root: Offer = { path: "exo", subcommands: shown, flags, places: [] };
  return [root, ...entries.flatMap((entry) => offersOfEntry(entry, "exo"))];
}

function offersOfEntry(entry: Command | CommandGroup, parent: string): Offer[] {
  const path = `${parent} ${entry.name}`;
  if (entry.kind === "command") return [offerOf(entry, path)];
  const subcommands = entry.commands.filter(({ isHidden }) => !isHidden);
  const group = { path, subcommands, flags: [offeredText(HELP)], places: [] };
  return [group, ...subcommands.flatMap((command) => offersOfEntry(command, path))];
}

function offerOf(command: Command, path: string): Offer {
  const common = [...commonFlags(command), HELP].map(offeredText);
  const places = command.positionals.map((place) => ({
    label: place.key.toUpperCase(),
    isList: place.isList,
    value: valueOf(place),
  }));
  return { path, subcommands: [], flags: [...command.flags.map(offeredFlag), ...common], places };
}

function offeredFlag(flag: Flag): OfferedFlag {
  return {
    long: spelled(flag),
    short: flag.short === undefined ? undefined : `-${flag.short}`,
    description: flag.description,
    isList: flag.isList,
    value: flag.kind === "boolean" ? "none" : valueOf(flag),
    label: flag.value,
  };
}

/** A flag out of its words in the help: `-v, --verbose` or `--url <URL>`. */
function offeredText({ flags, description }: { flags: string; description: string }): OfferedFlag {
  const [, short, long = "", label = ""] = /^(?:(-\w), )?(--[\w-]+)(?: <(.*)>)?$/.exec(flags) ?? [];
  const value = label === "" ? "none" : "word";
  return { long, short, description, isList: false, value, label };
}

/** What the name of a value says of it. */
function valueOf({ choices, value }: Flag): Value {
  if (choices.length > 0) return choices;
  if (/\bDIR\b/.test(value)) return "folder";
  return /\b(PATH|FILE)\b/.test(value) ? "file" : "word";
}

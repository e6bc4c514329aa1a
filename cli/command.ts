import type { z } from "zod";
import type { ApiClient } from "../api/client.ts";
import { firstIssue } from "../core/issues.ts";
import { AppError } from "../core/errors.ts";
import { type Flag, flagsOf, spelled, valuesOf } from "./flags.ts";
import type { Io } from "./io.ts";
import type { Output } from "./output.ts";

/** What a command runs with. */
export interface CommandContext<Args, Result = unknown> {
  readonly args: Args;
  /** The API of the node that `--url` names; made when it is first used. */
  readonly client: ApiClient;
  /** The same API under a signal of its own. */
  readonly connect: (signal: AbortSignal) => ApiClient;
  /** Whether the user named the node; else it is the usual one of this machine. */
  readonly isUrlGiven: boolean;
  readonly out: Output<Result>;
  readonly io: Io;
  /** Aborted when the user interrupts; `io.signal` for short. */
  readonly signal: AbortSignal;
}

/** A subcommand as its file writes it. */
export interface Definition<S extends z.ZodObject, R extends z.ZodType> {
  readonly name: string;
  /** One line, imperative, without a full stop. */
  readonly summary: string;
  /** What one line cannot say. */
  readonly description?: string;
  /** Lines after `exo`, each of which works. */
  readonly example: string | readonly string[];
  /** Flags, help and docs at once: `minNodes` is `--min-nodes`. */
  readonly args: S;
  /** What `--json` prints, each field with its description: `docs/json.md` is made of it. */
  readonly json: R;
  /** Keys of `args` that are given by place, in order. */
  readonly positionals?: readonly (keyof z.output<S> & string)[];
  /** Needs no node: has no `--url` and no `--api-key` but its own. */
  readonly isLocal?: boolean;
  /** Works, and is not shown. */
  readonly isHidden?: boolean;
  /**
   * The user's story. Returns the exit code when it is not 0.
   * @throws {AppError} what the user is told; its code decides the exit code.
   */
  run(
    context: CommandContext<z.output<S>, z.output<R>>,
  ): Promise<number | void> | number | void;
}

/** A subcommand that the table can hold. */
export interface Command {
  readonly kind: "command";
  readonly name: string;
  readonly summary: string;
  readonly description: string | undefined;
  readonly examples: readonly string[];
  readonly flags: readonly Flag[];
  readonly positionals: readonly Flag[];
  /** What `--json` prints. */
  readonly json: z.ZodType;
  readonly isLocal: boolean;
  readonly isHidden: boolean;
  /**
   * Checks what was typed, and runs nothing; the arguments come back.
   * @throws {AppError} `usage`, with what is needed.
   */
  check(typed: Readonly<Record<string, unknown>>, env: Io["env"]): unknown;
  /** Checks what was typed, then runs; the exit code comes back. */
  execute(
    typed: Readonly<Record<string, unknown>>,
    context: Omit<CommandContext<unknown>, "args">,
  ): Promise<number>;
}

/** Subcommands under one name. */
export interface CommandGroup {
  readonly kind: "group";
  readonly name: string;
  readonly summary: string;
  readonly isHidden: false;
  readonly commands: readonly (Command | CommandGroup)[];
}

/** A command with the words that call it: `cluster secret new`. */
export interface NamedCommand {
  readonly words: string;
  readonly command: Command;
}

/** A subcommand out of one schema. */
export function defineCommand<S extends z.ZodObject, R extends z.ZodType>(
  definition: Definition<S, R>,
): Command {
  const { name, summary, description, args, positionals = [] } = definition;
  const all = flagsOf(args);
  const places = positionals.flatMap((key) => all.filter((flag) => flag.key === key));
  const check = (typed: Readonly<Record<string, unknown>>, env: Io["env"]) => {
    const values = valuesOf(all, typed, env);
    const result = args.safeParse(values);
    if (!result.success) throw usageError(result.error, values, { all, places });
    return result.data;
  };
  return {
    kind: "command",
    name,
    summary,
    description,
    examples: [definition.example].flat(),
    flags: all.filter((flag) => !places.includes(flag)),
    positionals: places,
    json: definition.json,
    isLocal: definition.isLocal ?? false,
    isHidden: definition.isHidden ?? false,
    check,
    async execute(typed, context) {
      const { out, io, signal, isUrlGiven, connect } = context;
      return await definition.run({
        args: check(typed, io.env),
        out,
        io,
        signal,
        isUrlGiven,
        connect,
        // Not copied: it is made when it is first used, which some commands never do.
        get client() {
          return context.client;
        },
      }) ?? 0;
    },
  };
}

/** Subcommands under one name, as `exo instance …`. */
export function defineGroup(
  { name, summary, commands }: Omit<CommandGroup, "kind" | "isHidden">,
): CommandGroup {
  return { kind: "group", name, summary, isHidden: false, commands };
}

/** All commands of an entry that are shown, in their order. */
export function commandsIn(entry: Command | CommandGroup, words = entry.name): NamedCommand[] {
  if (entry.kind === "command") return [{ words, command: entry }];
  return entry.commands.filter(({ isHidden }) => !isHidden)
    .flatMap((one) => commandsIn(one, `${words} ${one.name}`));
}

function usageError(
  error: z.ZodError,
  values: unknown,
  { all, places }: { all: readonly Flag[]; places: readonly Flag[] },
): AppError {
  const { param, found, needed } = firstIssue(error, values);
  const [key] = param.split(".");
  const flag = all.find((flag) => flag.key === key);
  if (!flag) return new AppError("usage", `Cannot read the arguments: ${needed} needed`);
  const name = places.includes(flag) ? flag.key.toUpperCase() : spelled(flag);
  return new AppError("usage", `Cannot use ${name} ${found}: ${needed} needed`, { param: key });
}

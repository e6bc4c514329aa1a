import { deepEqual, equal, ok } from "node:assert/strict";
import { type Command, type CommandGroup, commandsIn } from "../../cli/command.ts";
import { COMMANDS } from "../../cli/mod.ts";
import { type Row, runProgram } from "../../cli/program.ts";
import { ioOf } from "./fake_io.ts";

/** The words of a line as a shell splits them, up to where it sends input and output. */
function wordsOf(line: string): string[] {
  const words = [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)];
  const end = words.findIndex(({ 0: word }) => /^[<>|]/.test(word));
  return words.slice(0, end < 0 ? undefined : end)
    .map(([, double, single, bare]) => double ?? single ?? bare ?? "");
}

/** A command that reads and checks its arguments, and does nothing with them. */
function parsing(command: Command, parsed: (name: string) => void): Command {
  return {
    ...command,
    execute(typed, { io }) {
      command.check(typed, io.env);
      parsed(command.name);
      return Promise.resolve(0);
    },
  };
}

function parsingAll<T extends Command | CommandGroup>(entry: T, parsed: (name: string) => void): T {
  if (entry.kind === "command") return { ...entry, ...parsing(entry, parsed) };
  return { ...entry, commands: entry.commands.map((one) => parsingAll(one, parsed)) };
}

async function parsingRow(row: Row, parsed: (name: string) => void): Promise<Row> {
  const entry = await row.load();
  const made = parsingAll(entry, parsed);
  return { ...row, load: () => Promise.resolve(made) };
}

Deno.test("every example of every command is read by that command", async () => {
  const parsed: string[] = [];
  const rows = await Promise.all(COMMANDS.map((row) => parsingRow(row, (one) => parsed.push(one))));
  for (const row of rows) {
    for (const { command } of commandsIn(await row.load())) {
      ok(command.examples.length > 0, command.name);
      for (const example of command.examples) {
        parsed.length = 0;
        const { io, stdout, stderr } = ioOf({});
        const code = await runProgram(rows, wordsOf(example), io);
        deepEqual([code, stdout(), stderr()], [0, "", ""], example);
        deepEqual(parsed, [command.name], example);
      }
    }
  }
});

Deno.test("the table says of each command what the command says itself", async () => {
  for (const row of COMMANDS) {
    const { name, summary } = await row.load();
    deepEqual([row.name, row.summary], [name, summary]);
  }
});

Deno.test("wordsOf() splits as a shell does", () => {
  equal(wordsOf('run m "two words" -n 1 < notes.txt').join("|"), "run|m|two words|-n|1");
});

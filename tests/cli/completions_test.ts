import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import { offersOf } from "../../cli/completion_table.ts";
import { COMMANDS } from "../../cli/mod.ts";
import { TempDir } from "../support/temp_dir.ts";
import { runIn } from "./fake_io.ts";

/** The script for a shell in a folder of its own, with the command that runs a line there. */
async function scriptOf(shell: string, dir: TempDir) {
  const { code, stdout } = await runIn({}, ["completions", shell]);
  equal(code, 0);
  const file = join(dir.path, "exo");
  await Deno.writeTextFile(file, stdout);
  return async (...args: string[]) => {
    const options = {
      args,
      cwd: dir.path,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    } as const;
    const { code, stdout, stderr } = await new Deno.Command(shell, options).output();
    const decoder = new TextDecoder();
    equal(code, 0, decoder.decode(stderr));
    equal(decoder.decode(stderr), "");
    return decoder.decode(stdout).split("\n").filter((line) => line !== "");
  };
}

function has(shell: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => {
    try {
      return Deno.statSync(join(folder, shell)).isFile;
    } catch {
      return false;
    }
  });
}

/** What is typed, and all that may follow; a line that ends in a blank starts a new word. */
const CASES: readonly [string, readonly string[]][] = [
  ["exo inst", ["instance"]],
  ["exo instance cr", ["create"]],
  ["exo instance ", ["create", "list", "show", "await", "delete"]],
  ["exo --url http://x models s", ["show"]],
  ["exo instance create m --sharding ", ["pipeline", "tensor"]],
  ["exo instance create m --node n --shar", ["--sharding"]],
  ["exo serve --log-format j", ["json"]],
  ["exo serve --ver", ["--verbose"]],
  ["exo serve --port ", []],
  ["exo serve --data-dir ", ["folder"]],
  ["exo models add m", ["m.gguf"]],
  ["exo run m", ["m.gguf"]],
  ["exo models show ", []],
  ["exo completions f", ["fish"]],
  ["exo run", ["run"]],
  ["exo runner", []],
  ["exo cluster ", ["secret"]],
  ["exo cluster secret ", ["new"]],
  ["exo cluster secret new --o", ["--out"]],
];

/** Runs all cases in a shell that completes one line with `complete`. */
async function check(
  shell: string,
  cases: typeof CASES,
  complete: (line: string) => readonly string[],
): Promise<void> {
  await using dir = await TempDir.make();
  const run = await scriptOf(shell, dir);
  await run("-n", "exo");
  await Deno.mkdir(join(dir.path, "folder"));
  await Deno.writeTextFile(join(dir.path, "m.gguf"), "");
  for (const [line, words] of cases) {
    const found = await run(...complete(line));
    deepEqual(found.map((word) => word.replace(/\/$/, "")).toSorted(), words.toSorted(), line);
  }
}

/** A line as bash hands it to a completion function. */
function bashCall(line: string): string[] {
  const words = line.replaceAll("=", " = ").split(" ");
  const script = 'source ./exo; complete -p exo >/dev/null; COMP_WORDS=("$@"); ' +
    'COMP_CWORD=$(($# - 1)); _exo; [[ ${#COMPREPLY[@]} == 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"';
  return ["--norc", "-c", script, "bash", ...words];
}

Deno.test("completions bash completes commands, flags, choices and paths", async () => {
  const split: typeof CASES = [["exo instance create m --sharding=t", ["tensor"]]];
  await check("bash", [...CASES, ...split], bashCall);
});

Deno.test({
  name: "completions fish does the same",
  ignore: !has("fish"),
  async fn() {
    // The first column is the word, the second says what it is.
    await check("fish", CASES, (line) => [
      "--no-config",
      "-c",
      "source ./exo; complete -C $argv[1] | string replace -r '\\t.*' ''; true",
      line,
    ]);
  },
});

Deno.test({
  name: "completions zsh is a script that zsh can load",
  ignore: !has("zsh"),
  async fn() {
    await using dir = await TempDir.make();
    const run = await scriptOf("zsh", dir);
    await run("-n", "exo");
    const load = "autoload -Uz compinit; compinit -u -D; source ./exo; print $_comps[exo]";
    deepEqual(await run("-f", "-c", load), ["_exo"]);
  },
});

Deno.test("completions offer each shown command, and say what a value is", async () => {
  const offers = await offersOf(COMMANDS);
  const paths = offers.map(({ path }) => path);
  ok(paths.includes("exo instance create") && !paths.includes("exo runner"));
  // One way to skip a value serves all commands: a flag takes one everywhere or nowhere.
  const kinds = Map.groupBy(offers.flatMap(({ flags }) => flags), ({ long }) => long);
  for (const [long, flags] of kinds) {
    equal(new Set(flags.map(({ value }) => value === "none")).size, 1, long);
  }
});

Deno.test("completions tells how to install them, and refuses an unknown shell", async () => {
  const help = await runIn({}, ["completions", "--help"]);
  match(help.stdout, /exo completions bash > ~\/\.local\/share\/bash-completion/);
  const { code, stderr } = await runIn({}, ["completions", "tcsh"]);
  equal(code, 2);
  match(stderr, /SHELL "tcsh": one of bash, zsh, fish needed/);
  const { stdout } = await runIn({}, ["completions", "bash", "--json"]);
  deepEqual(Object.keys(JSON.parse(stdout)), ["shell", "script"]);
});

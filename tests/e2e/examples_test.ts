import assert from "node:assert/strict";
import { type Command, commandsIn } from "../../cli/command.ts";
import { COMMANDS } from "../../cli/mod.ts";
import { ExampleWorld } from "../support/example_world.ts";
import { TempDir } from "../support/temp_dir.ts";
import { PROMPT, Terminal } from "../support/terminal.ts";

/** One line of `docs/cli.md`. */
interface Example {
  /** As `exo` prints it: `instance create`. */
  readonly name: string;
  readonly command: Command;
  readonly line: string;
}

/** Commands that go on until they are interrupted: what they say once they are up, how they end. */
const LASTING: Readonly<Record<string, { isUp: RegExp; code: number }>> = {
  serve: { isUp: /Ctrl-C stops it|"pid"/, code: 0 },
  demo: { isUp: /Any OpenAI client|"answer"/, code: 0 },
  "status --watch": { isUp: /TASK|No tasks|"tasks"/, code: 130 },
};

/** How an example ends that goes on until it is interrupted; undefined for all others. */
function lasting({ name, line }: Example) {
  return LASTING[line] ?? LASTING[name];
}

/** Examples for a person at a terminal, with what is typed and what must then be seen. */
const TYPED: Readonly<Record<string, { keys: string; seen: string }>> = {
  "run smollm2": { keys: "Where is Paris?\r", seen: "\nWhere is Paris?" },
};

/** An address of this machine at which nobody listens. */
const NOWHERE = "127.0.0.1:1";

/** Commands whose model must have no instance yet. */
const UNPLACED: ReadonlySet<string> = new Set([
  "instance create",
  "meta-instance create",
  "models remove",
]);

async function examples(): Promise<Example[]> {
  const found: Example[] = [];
  for (const row of COMMANDS.filter(({ isHidden }) => !isHidden)) {
    for (const { words: name, command } of commandsIn(await row.load())) {
      for (const line of command.examples) found.push({ name, command, line });
    }
  }
  return found;
}

/** What a command left. */
interface Left {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a line to its end; one that would never end is interrupted once it is up. */
async function run(world: ExampleWorld, example: Example, line: string): Promise<Left> {
  const isUp = lasting(example)?.isUp;
  const child = world.command(line).spawn();
  let isInterrupted = false;
  const said = { stdout: "", stderr: "" };
  const read = async (kind: keyof typeof said) => {
    for await (const text of child[kind].pipeThrough(new TextDecoderStream())) {
      said[kind] += text;
      if (isInterrupted || !isUp?.test(said[kind])) continue;
      isInterrupted = true;
      child.kill("SIGINT");
    }
  };
  await Promise.all([read("stdout"), read("stderr")]);
  return { code: (await child.status).code, ...said };
}

/** Asserts that a line works as a person reads it. */
async function checkWords(world: ExampleWorld, example: Example, line: string): Promise<void> {
  const { code, stdout, stderr } = await run(world, example, line);
  assert.equal(code, lasting(example)?.code ?? 0, stderr);
  assert.doesNotMatch(stdout + stderr, /^error:|undefined|\bNaN\b|\[object/m);
  const file = /> *(\S+|".*")$/.exec(line)?.[1];
  const written = file === undefined ? stdout : await contentOf(world, file);
  assert.notEqual(written.trim(), "", "it says something");
  // Its own example may ask for JSON.
  if (line.includes("--json")) checkJson(example, stdout);
}

async function contentOf(world: ExampleWorld, file: string): Promise<string> {
  const { stdout } = await world.command(`cat ${file}`).output();
  return new TextDecoder().decode(stdout);
}

/** Asserts that it is one line that fits the schema of the command, with no key beside. */
function checkJson({ command }: Example, stdout: string): void {
  assert.match(stdout, /^.+\n$/, "one line");
  const result = command.json.safeParse(JSON.parse(stdout));
  assert.ok(result.success, `${result.error}\n${stdout}`);
}

async function checkTyped(world: ExampleWorld, line: string): Promise<void> {
  const typed = TYPED[line];
  assert.ok(typed);
  const options = { env: { ...world.env }, cwd: world.cwd };
  await using terminal = new Terminal(["bash", "-c", `exo ${line}`], options);
  await terminal.until(PROMPT);
  await terminal.press(typed.keys);
  assert.ok((await terminal.until(PROMPT)).includes(typed.seen));
  await terminal.press("\x04");
  await terminal.until("\x00");
  assert.equal(await terminal.code(), 0);
}

Deno.test("every example of docs/cli.md works as it is written, and with --json", async (t) => {
  await using dir = await TempDir.make();
  await using world = await ExampleWorld.make(dir);
  const all = await examples();
  assert.ok(all.length > 25);
  for (const example of all) {
    const { name, line } = example;
    const prepare = async () => {
      const { instanceId } = await world.prepare({ isPlaced: !UNPLACED.has(name) });
      const isDeclared = name.startsWith("meta-instance ") && !UNPLACED.has(name);
      const id = isDeclared ? await world.declare() : instanceId;
      await world.haveSecret(!name.startsWith("cluster secret"));
      // What stands for an id, and an address of somebody's own network: nobody listens at ours.
      return `exo ${line.replace(/\bID\b/, id).replace(/\b192\.168\.1\.20:\d+/, NOWHERE)}`;
    };
    await t.step(`exo ${line}`, async () => {
      const whole = await prepare();
      if (line in TYPED) return await checkTyped(world, line);
      await checkWords(world, example, whole);
      if (line.includes("--json")) return;
      // Before what a shell takes for itself, so that the result stays on stdout.
      const json = `${(await prepare()).replace(/ >.*$/, "")} --json`;
      const { code, stdout, stderr } = await run(world, example, json);
      // The log of a node has stderr for itself.
      const expected = lasting(example)?.code ?? 0;
      assert.deepEqual([code, name === "serve" ? "" : stderr], [expected, ""]);
      checkJson(example, stdout);
    });
  }
});

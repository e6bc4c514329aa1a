import { equal } from "node:assert/strict";
import { join } from "node:path";
import { runIn, type World as CliWorld } from "../cli/fake_io.ts";
import { TempDir } from "../support/temp_dir.ts";
import { apart } from "../support/apart.ts";
import { steady, type Told } from "./told.ts";
import type { World } from "./world.ts";

/** A command that runs on although it should not is ended after this time. */
const PATIENCE_MS = 3_000;

/** A command line that fails, and what is about it. */
export interface Typed {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command line twice: what its user reads must be what its program reads. */
export async function tellTyped({ name, argv, env }: Typed, cli: CliWorld = {}): Promise<Told> {
  const world = { ...cli, env: { ...apart(), ...cli.env, ...env } };
  const signal = () => AbortSignal.timeout(PATIENCE_MS);
  const { code, stderr } = await runIn({ ...world, signal: signal() }, ["--json", ...argv]);
  const shown = Object.entries(env ?? {}).map(([key, value]) => `${key}=${value} `).join("");
  const told = toldOnStderr(
    {
      name,
      by: `${shown}exo ${argv.map((word) => word === "" ? '""' : word).join(" ")}`,
    },
    code,
    stderr,
  );
  const plain = await runIn({ ...world, signal: signal() }, argv);
  equal(plain.code, code, name);
  // The help of a group says more than that a subcommand is missing.
  if (plain.stderr.startsWith("Usage: ")) return told;
  const hint = told.hint === undefined ? "" : `hint: ${told.hint}\n`;
  const words = steady(`error: ${told.message}\n${hint}`);
  equal(steady(plain.stderr).endsWith(words), true, plain.stderr);
  return told;
}

/** The error that a command with `--json` leaves as the last line of its stderr. */
export function toldOnStderr(
  case_: { name: string; by: string },
  code: number,
  stderr: string,
): Told {
  const last = stderr.trimEnd().split("\n").at(-1) ?? "";
  equal(last.startsWith('{"error":'), true, `${case_.by}: exit ${code}: ${stderr}`);
  const { error } = JSON.parse(last);
  const { message, hint, param } = error;
  return { ...case_, outcome: `exit ${code} ${error.code}`, message, hint, param };
}

const CREATE = ["instance", "create", "tiny"];

/** Words that are no command, and arguments that no command takes. */
const USAGE: readonly Typed[] = [
  { name: "an unknown command", argv: ["frobnicate"] },
  { name: "a misspelt command", argv: ["statsu"] },
  { name: "a group without its subcommand", argv: ["instance"] },
  { name: "an unknown subcommand", argv: ["instance", "frobnicate"] },
  { name: "a misspelt subcommand", argv: ["models", "lst"] },
  { name: "an unknown flag", argv: ["status", "--frobnicate"] },
  { name: "a misspelt flag", argv: ["run", "tiny", "hi", "--temprature", "1"] },
  { name: "a flag without its value", argv: ["status", "--url"] },
  { name: "a missing argument", argv: ["models", "add"] },
  { name: "one argument too many", argv: ["models", "show", "a", "b"] },
  { name: "a number that is text", argv: ["run", "tiny", "hi", "--temperature", "hot"] },
  { name: "a number that is too large", argv: ["run", "tiny", "hi", "--temperature", "3"] },
  { name: "a fraction where none may be", argv: ["run", "tiny", "hi", "--max-tokens", "1.5"] },
  { name: "an empty argument", argv: ["models", "show", ""] },
  { name: "an unknown choice", argv: ["instance", "create", "tiny", "--sharding", "diagonal"] },
  { name: "bits of a cache that no engine has", argv: [...CREATE, "--kv-bits", "16"] },
  { name: "no requests at once", argv: [...CREATE, "--max-concurrent-requests", "0"] },
  { name: "too long a chunk", argv: [...CREATE, "--prefill-chunk", "100000"] },
  { name: "a default that is too hot", argv: [...CREATE, "--temperature", "3"] },
  { name: "a default that is none", argv: [...CREATE, "--top-k", "some"] },
  { name: "a penalty of zero", argv: ["run", "tiny", "hi", "--repetition-penalty", "0"] },
  { name: "a penalty that is too high", argv: ["run", "tiny", "hi", "--presence-penalty", "3"] },
  { name: "a port that is none", argv: ["serve", "--port", "99999"] },
  { name: "an unknown form of the log", argv: ["serve", "--log-format", "xml"] },
  { name: "a namespace that is none", argv: ["serve", "--namespace", "two words"] },
  { name: "a port for nodes that is none", argv: ["serve", "--libp2p-port", "99999"] },
  { name: "a group within a group alone", argv: ["cluster", "secret"] },
  { name: "a flag of clients", argv: ["serve", "--url", "http://127.0.0.1:1"] },
  { name: "layers without a node", argv: [...CREATE, "--layers", "12"] },
  { name: "layers of a node twice", argv: [...CREATE, "--layers", "a=1,a=2"] },
  { name: "half a layer", argv: ["place", "tiny", "--layers", "a=0.5"] },
  {
    name: "memory without a unit that is known",
    argv: [...CREATE, "--memory-limit", "a=8 parsec"],
  },
  { name: "an unknown preference", argv: ["place", "tiny", "--prefer", "cheapest"] },
  {
    name: "retries without end",
    argv: ["meta-instance", "create", "tiny", "--max-retries", "5000"],
  },
  { name: "a pin that is none", argv: ["meta-instance", "create", "tiny", "--pin", "hard"] },
  { name: "an unknown shell", argv: ["completions", "tcsh"] },
];

/** Command lines that are well-formed and ask the node for what it has not. */
const ASKED: readonly Typed[] = [
  { name: "an unknown model to ask", argv: ["run", "nope", "hi"] },
  { name: "a misspelt model to ask", argv: ["run", "tniy", "hi"] },
  { name: "the prefix of two models", argv: ["models", "show", "other"] },
  { name: "a path where nothing is", argv: ["run", "/nothing/here.gguf", "hi"] },
  { name: "a model to add where nothing is", argv: ["models", "add", "/nothing/here.gguf"] },
  { name: "an unknown model to show", argv: ["models", "show", "nope"] },
  { name: "a misspelt model to place", argv: ["instance", "create", "ohter-1b"] },
  { name: "an unknown family of models", argv: ["models", "list", "--family", "bert"] },
  { name: "a quantisation that no card has", argv: ["models", "show", "qwen3-30b-a3b-9bit"] },
  { name: "a model that comes with exo to forget", argv: ["models", "remove", "gpt-oss-20b"] },
  { name: "a model in use to forget", argv: ["models", "remove", "tiny"] },
  { name: "an unknown model to forget", argv: ["models", "remove", "nope"] },
  { name: "an unknown instance", argv: ["instance", "show", "nope"] },
  { name: "an unknown instance to delete", argv: ["instance", "delete", "nope"] },
  { name: "an unknown instance to wait for", argv: ["instance", "await", "nope"] },
  { name: "a model that does not fit", argv: ["instance", "create", "huge"] },
  { name: "a context that is too long", argv: ["instance", "create", "tiny", "--context", "9999"] },
  { name: "more nodes than there are", argv: ["instance", "create", "tiny", "--min-nodes", "2"] },
  { name: "a node that nobody knows", argv: ["instance", "create", "tiny", "--node", "nobody"] },
  { name: "a model to preview that nobody knows", argv: ["place", "nope"] },
  { name: "a preview on an unknown node", argv: ["place", "tiny", "--node", "nobody"] },
  {
    name: "a topology that is not there",
    argv: ["place", "tiny", "--topology", "/nothing/here.json"],
  },
  { name: "a model to declare that nobody knows", argv: ["meta-instance", "create", "ohter-1b"] },
  { name: "an unknown meta-instance", argv: ["meta-instance", "show", "nope"] },
  { name: "an unknown meta-instance to retry", argv: ["meta-instance", "retry", "nope"] },
  { name: "an unknown meta-instance to delete", argv: ["meta-instance", "delete", "nope"] },
  { name: "no prompt", argv: ["run", "tiny"] },
];

/** Addresses where no node is; `closed` is one where nothing listens. */
function addresses(closed: string): Typed[] {
  const status = (name: string, url: string) => ({ name, argv: ["status", "--url", url] });
  const named = (name: string, env: Typed["env"] = {}) => ({ name, argv: ["status"], env });
  return [
    status("a node that is not there", closed),
    status("an address that is none", "localhost"),
    status("an address of another kind", "ftp://127.0.0.1"),
    status("a host that has no address", "http://nowhere.invalid"),
    status("a port that no client may ask", "http://127.0.0.1:1"),
    { name: "no node for a question", argv: ["run", "x", "hi", "--url", closed] },
    named("EXO_URL that is none", { EXO_URL: "somewhere" }),
    named("EXO_URL without a node", { EXO_URL: closed }),
    named("EXO_API_KEY that is no header", { EXO_URL: closed, EXO_API_KEY: "two\nlines" }),
  ];
}

/** An address of this machine at which nothing listens any more. */
function closedUrl(): string {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return `http://127.0.0.1:${listener.addr.port}`;
}

/** What the command line says to what is typed. */
export async function commandLines(world: World): Promise<Told[]> {
  const told: Told[] = [];
  for (const typed of USAGE) told.push(await tellTyped(typed));
  const asking: CliWorld = { env: { EXO_URL: world.url }, stdin: "" };
  for (const typed of ASKED) {
    told.push(await tellTyped(typed, asking));
    await world.isWell(typed.name);
  }
  for (const typed of addresses(closedUrl())) told.push(await tellTyped(typed));
  await using site = new OtherServer();
  told.push(
    await tellTyped({ name: "a server that is no node", argv: ["status", "--url", site.url] }),
  );
  return [...told, ...await nodesThatCannotStart(world)];
}

/** Flags and variables with which no node starts. */
async function nodesThatCannotStart(world: World): Promise<Told[]> {
  await using dir = await TempDir.make();
  const free = ["--port", "0", "--data-dir", dir.path, "--no-worker", "-q"];
  const { port } = new URL(world.url);
  const timeout = (value: string) => ({
    name: `EXO_MODEL_LOAD_TIMEOUT that is ${value}`,
    argv: ["serve", ...free],
    env: { EXO_MODEL_LOAD_TIMEOUT: value },
  });
  const memory = (value: string) => ({
    name: `OVERRIDE_MEMORY_MB that is ${value}`,
    argv: ["serve", ...free],
    env: { OVERRIDE_MEMORY_MB: value },
  });
  await Deno.writeTextFile(join(dir.path, "short"), "secret\n", { mode: 0o600 });
  const secret = (what: string, file: string) => ({
    name: `a cluster secret ${what}`,
    argv: ["serve", ...free, "--cluster-secret", join(dir.path, file)],
  });
  const cases: readonly Typed[] = [
    { name: "a port that is taken", argv: ["serve", ...free, "--port", port] },
    {
      name: "an address of elsewhere",
      argv: ["serve", ...free, "--no-auth", "--host", "203.0.113.1"],
    },
    {
      name: "a host that is none",
      argv: ["serve", ...free, "--no-auth", "--host", "nowhere.invalid"],
    },
    { name: "the network without a key", argv: ["serve", ...free, "--host", "0.0.0.0"] },
    { name: "an empty key", argv: ["serve", ...free, "--api-key", ""] },
    { name: "a key that is no header", argv: ["serve", ...free, "--api-key", "two words"] },
    {
      name: "EXO_API_KEY that no client could send",
      argv: ["serve", ...free],
      env: { EXO_API_KEY: "two words" },
    },
    {
      name: "a node to look for that is none",
      argv: ["serve", ...free, "--bootstrap", "http://x"],
    },
    {
      name: "a node to look for without TCP",
      argv: ["serve", ...free, "--bootstrap", "/ip4/10.0.0.2/udp/52414/quic-v1"],
    },
    {
      name: "EXO_BOOTSTRAP with one that is none",
      argv: ["serve", ...free],
      env: { EXO_BOOTSTRAP: "10.0.0.2:52414,10.0.0.300" },
    },
    { name: "ports that are no range", argv: ["serve", ...free, "--ring-ports", "50063-50000"] },
    secret("that is not there", "none"),
    secret("that is too short", "short"),
    secret("that is a folder", "."),
    {
      name: "a cluster secret over another file",
      argv: ["cluster", "secret", "new", "--out", join(dir.path, "short")],
    },
    {
      name: "a cluster secret where no folder is",
      argv: ["cluster", "secret", "new", "--out", join(dir.path, "no", "folder")],
    },
    timeout("soon"),
    timeout("-1"),
    timeout("1e12"),
    memory("lots"),
    memory("-5"),
    memory("0"),
    {
      name: "EXO_TRACING_ENABLED that is neither",
      argv: ["serve", ...free],
      env: { EXO_TRACING_ENABLED: "yes" },
    },
    {
      name: "EXO_ENABLE_IMAGE_MODELS that is neither",
      argv: ["serve", ...free],
      env: { EXO_ENABLE_IMAGE_MODELS: "yes" },
    },
  ];
  const told: Told[] = [];
  for (const one of cases) told.push(await tellTyped(one, { env: { EXO_HOME: dir.path } }));
  return told;
}

/** Something else that listens: a web site. */
class OtherServer implements AsyncDisposable {
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("<h1>It works</h1>", { headers: { "content-type": "text/html" } }),
  );
  readonly url = `http://127.0.0.1:${this.#server.addr.port}`;

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

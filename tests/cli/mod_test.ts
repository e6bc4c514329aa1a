import { deepEqual, equal, match, ok } from "node:assert/strict";
import { ErrorJson } from "../../cli/error_json.ts";
import { FINISH, token } from "../support/fake_gateway.ts";
import { FakeNode, runIn } from "./fake_io.ts";

/** An address where nobody answers. */
const NOWHERE = "http://127.0.0.1:1";

Deno.test("exo --version prints the version, also as JSON", async () => {
  const words = await runIn({}, ["--version"]);
  match(words.stdout, /^exo \d+\.\d+\.\d+\n$/);
  const { stdout } = await runIn({}, ["--version", "--json"]);
  equal(`exo ${JSON.parse(stdout).version}\n`, words.stdout);
});

Deno.test("exo --help lists the commands on stdout, without the hidden one", async () => {
  const { code, stdout, stderr } = await runIn({}, ["--help"]);
  deepEqual([code, stderr], [0, ""]);
  for (const name of ["demo", "serve", "run", "instance", "models", "status", "setup"]) {
    match(stdout, new RegExp(`^  ${name} `, "m"));
  }
  ok(!/^ +runner/m.test(stdout));
});

Deno.test("exo alone, or a group alone, shows its help on stderr and exits with 2", async () => {
  for (const argv of [[], ["instance"]]) {
    const { code, stdout, stderr } = await runIn({}, argv);
    deepEqual([code, stdout], [2, ""]);
    match(stderr, /Usage: exo/);
  }
});

Deno.test("exo help COMMAND and COMMAND --help show flags, defaults and examples", async () => {
  const help = await runIn({}, ["help", "instance", "create"]);
  deepEqual(help, await runIn({}, ["instance", "create", "--help"]));
  equal(help.code, 0);
  match(help.stdout, /--min-nodes <N> +Fewest nodes to use \(default: 1\)/);
  match(help.stdout, /--sharding <pipeline\|tensor>/);
  match(help.stdout, /EXO_URL/);
  match(help.stdout, /Examples:\n {2}exo instance create/);
});

Deno.test("Usage errors exit with 2, say what was given, and where help is", async () => {
  const cases: [string[], RegExp, RegExp][] = [
    [["statsu"], /Cannot run "statsu": exo has no such command/, /did you mean status\?/],
    [
      ["instance", "lst"],
      /Cannot run "lst": exo instance has no such command/,
      /did you mean list\?/,
    ],
    [
      ["instance", "create"],
      /Cannot run exo instance create: found no MODEL/,
      /exo instance create --help/,
    ],
    [["status", "--jsn"], /Cannot use --jsn: exo status has no such flag/, /did you mean --json\?/],
    [["status", "more"], /found too many arguments: more/, /exo status --help/],
    [["instance", "create", "m", "--min-nodes", "0"], /--min-nodes 0: at least 1 needed/, /help/],
    [["instance", "create", "m", "--min-nodes", "x"], /--min-nodes "x": a number needed/, /help/],
    [["instance", "create", "m", "--sharding", "x"], /one of pipeline, tensor needed/, /help/],
    [["run", "m", "p", "--temperature", "3"], /--temperature 3: at most 2 needed/, /help/],
    [["status", "--url", "ftp://x"], /http:\/\/HOST:PORT needed/, /the default is/],
  ];
  for (const [argv, error, hint] of cases) {
    const { code, stdout, stderr } = await runIn({}, argv);
    deepEqual([code, stdout], [2, ""], argv.join(" "));
    match(stderr, new RegExp(`^error: .*${error.source}`));
    match(stderr, new RegExp(`hint: .*${hint.source}`));
  }
});

Deno.test("Without a node client commands exit with 3 and say how to start one", async () => {
  for (const command of ["status", "models list", "instance list", "run m p"]) {
    const { code, stderr } = await runIn({ stdin: "" }, [...command.split(" "), "--url", NOWHERE]);
    equal(code, 3, command);
    match(
      stderr,
      /Cannot reach a node at http:\/\/127\.0\.0\.1:1: .*\nhint: start one with exo/,
    );
  }
});

Deno.test("With --json an error is one JSON object on stderr", async () => {
  const { code, stdout, stderr } = await runIn({ env: { EXO_URL: NOWHERE } }, ["status", "--json"]);
  deepEqual([code, stdout], [3, ""]);
  const { error } = ErrorJson.parse(JSON.parse(stderr));
  equal(error.code, "node_unreachable");
  ok(error.message && error.hint);
});

Deno.test("Something else that answers at the address is not taken for a node", async () => {
  const stop = new AbortController();
  const options = { hostname: "127.0.0.1", port: 0, signal: stop.signal, onListen: () => {} };
  const server = Deno.serve(options, () => new Response("<html>", { status: 404 }));
  const url = `http://127.0.0.1:${server.addr.port}`;
  const { code, stderr } = await runIn({}, ["status", "--url", url]);
  equal(code, 3);
  match(stderr, /found status 404, a node needed/);
  stop.abort();
  await server.finished;
});

Deno.test("Flags of all commands may stand before the command", async () => {
  await using node = await FakeNode.start();
  const { code, stdout } = await runIn({}, ["--json", "--url", node.url, "models", "list"]);
  deepEqual([code, stdout], [0, "[]\n"]);
});

Deno.test("The API key comes from the flag, the environment, then the local file", async () => {
  await using node = await FakeNode.start({ apiKey: "right" });
  const files = { "/home/someone/.local/share/exo/api-key": "right\n" };
  const argv = ["models", "list"];
  equal((await node.run(argv)).code, 1);
  equal((await node.run(argv, { files })).code, 0);
  equal((await node.run(argv, { env: { EXO_API_KEY: "right" } })).code, 0);
  equal((await node.run(argv, { env: { EXO_API_KEY: "wrong" }, files })).code, 1);
  equal((await node.run([...argv, "--api-key", "right"], { env: { EXO_API_KEY: "x" } })).code, 0);
});

Deno.test("The key of this machine is not sent to another", async () => {
  const read: string[] = [];
  const files = new Proxy({}, {
    get: (_, path) => {
      read.push(String(path));
      return "secret";
    },
  });
  await runIn({ files, env: { EXO_URL: "http://exo.invalid:1" } }, ["status"]);
  deepEqual(read, []);
});

Deno.test("Colours are for terminals, and not against NO_COLOR", async () => {
  const red = "\x1b[31m";
  ok(!(await runIn({}, ["nope"])).stderr.includes(red));
  ok((await runIn({ isTerminal: true }, ["nope"])).stderr.includes(red));
  const plain = await runIn({ isTerminal: true, env: { NO_COLOR: "1" } }, ["nope"]);
  ok(!plain.stderr.includes(red));
});

Deno.test("What does not exist has no help: it is told, with what may have been meant", async () => {
  for (const argv of [["help", "nope"], ["nope", "--help"], ["instance", "lst", "-h"]]) {
    const { code, stdout, stderr } = await runIn({}, argv);
    deepEqual([code, stdout], [2, ""], argv.join(" "));
    match(stderr, /^error: .*(nope|lst)/);
    ok(!stderr.includes("Usage:"), stderr);
  }
});

Deno.test("exo alone, or a group alone, is one JSON error with --json", async () => {
  for (const argv of [["--json"], ["instance", "--json"]]) {
    const { code, stdout, stderr } = await runIn({}, argv);
    deepEqual([code, stdout], [2, ""]);
    equal(ErrorJson.parse(JSON.parse(stderr)).error.code, "usage");
  }
});

Deno.test("A dumb terminal gets plain lines: no colours, no bars", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const env = { TERM: "dumb" };
  const progress = { type: "PrefillProgress" as const, totalTokens: 9 };
  node.gateway.answer = () => [
    { ...progress, processedTokens: 3 },
    { ...progress, processedTokens: 9 },
    token("Hi"),
    FINISH,
  ];
  const plain = await node.run(["run", "tiny", "hi"], { isTerminal: true, env });
  match(plain.stderr, /^Reading the prompt 3\/9\nFirst token/);
  const drawn = await node.run(["run", "tiny", "hi"], { isTerminal: true });
  match(drawn.stderr, /█ 9\/9/);
  ok(drawn.stderr.includes("\x1b[2KFirst token"), "the bar makes way");
  ok(!(await runIn({ isTerminal: true, env }, ["nope"])).stderr.includes("\x1b"));
});

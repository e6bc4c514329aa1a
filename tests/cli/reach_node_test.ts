import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import { showAnswer } from "../../cli/answer.ts";
import type { HostOptions } from "../../cli/host.ts";
import { systemIo } from "../../cli/io.ts";
import { Output } from "../../cli/output.ts";
import { reachNode } from "../../cli/reach_node.ts";
import { readyModel } from "../../cli/ready_model.ts";
import { AppError } from "../../core/errors.ts";
import { cardOf } from "../support/fake_gateway.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FakeNode, ioOf } from "./fake_io.ts";

/** An address where nobody answers. */
const NOWHERE = "http://127.0.0.1:1";

const TINY_MODEL = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** What a command runs with when `url` is the address it asks. */
function contextOf(url: string, isUrlGiven: boolean) {
  const { io, stderr } = ioOf({});
  const connect = (signal: AbortSignal) => new ApiClient({ url, signal });
  const out = new Output(io, { isJson: false });
  return { io, out, isUrlGiven, connect, client: connect(io.signal), stderr };
}

/** Stands in for starting a node: hands out one that runs, and notes what is done with it. */
function starterOf(node: FakeNode) {
  const started: HostOptions[] = [];
  let stops = 0;
  const start = (options: HostOptions) => {
    started.push(options);
    const stop = () => {
      stops++;
      return Promise.resolve();
    };
    return Promise.resolve({ api: { url: node.url }, stop });
  };
  return { started, start, stops: () => stops };
}

Deno.test("reachNode() starts a node where none answers, and stops it in the end", async () => {
  await using node = await FakeNode.start();
  const { started, start, stops } = starterOf(node);
  const context = contextOf(NOWHERE, false);
  {
    await using reached = await reachNode(context, { mayStart: true, start });
    ok(reached.isOwn);
    equal(await reached.client.nodeId(), "node-1");
    equal(stops(), 0);
  }
  equal(stops(), 1);
  const [options] = started;
  deepEqual([options?.host, options?.port, options?.dataDir], ["127.0.0.1", 0, undefined]);
  match(context.stderr(), /No node runs: starting one/);
});

Deno.test("reachNode() starts none beside one that runs, was named, or is unwanted", async () => {
  await using node = await FakeNode.start();
  await using locked = await FakeNode.start({ apiKey: "secret" });
  const { started, start } = starterOf(node);
  const cases = [
    { url: node.url, isUrlGiven: false, mayStart: true },
    { url: NOWHERE, isUrlGiven: true, mayStart: true },
    { url: NOWHERE, isUrlGiven: false, mayStart: false },
  ];
  for (const { url, isUrlGiven, mayStart } of cases) {
    await using reached = await reachNode(contextOf(url, isUrlGiven), { mayStart, start });
    ok(!reached.isOwn);
    equal(reached.client.url, url);
  }
  const reach = reachNode(contextOf(locked.url, false), { mayStart: true, start });
  await rejects(reach, (error: AppError) => error.code === "unauthorized");
  deepEqual(started, []);
});

Deno.test("reachNode() says how to ask the node that holds the data directory", async () => {
  const held = new AppError("conflict", "Cannot open x: another node uses this directory", {
    hint: "pass another --data-dir",
  });
  const options = { mayStart: true, start: () => Promise.reject(held) };
  await rejects(reachNode(contextOf(NOWHERE, false), options), (error: AppError) => {
    deepEqual([error.code, error.message], [held.code, held.message]);
    return error.hint === "name the node that runs with --url";
  });
});

Deno.test("readyModel() leaves no instance of its own in a node that it started", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  gateway.readyWhatIsPlaced();
  const { start } = starterOf(node);
  const context = contextOf(NOWHERE, false);
  {
    await using reached = await reachNode(context, { mayStart: true, start });
    await readyModel(reached, "tiny", context);
    equal(gateway.state().instances.size, 1);
  }
  equal(gateway.state().instances.size, 0);
  // What was there before is not its own.
  gateway.placeModel();
  {
    await using reached = await reachNode(context, { mayStart: true, start });
    await readyModel(reached, "tiny", context);
  }
  equal(gateway.state().instances.size, 1);
});

Deno.test("A node of this process answers from a folder, and leaves nothing running", async () => {
  await using dir = await TempDir.make();
  const signal = new AbortController().signal;
  const { io: recorded, stdout } = ioOf({});
  const env = { ...Deno.env.toObject(), EXO_HOME: dir.path };
  const io = { ...systemIo(signal), stdout: recorded.stdout, stderr: recorded.stderr, env };
  const context = { ...contextOf(NOWHERE, false), io, out: new Output(io, { isJson: false }) };
  let url: string;
  {
    await using node = await reachNode(context, { mayStart: true });
    url = node.client.url;
    const model = await readyModel(node, TINY_MODEL, context);
    match(model, /^local\/tiny-tied-/);
    const messages = [{ role: "user" as const, content: "hello" }];
    const answer = await showAnswer(
      node.client.chat({ model, messages, maxTokens: 4 }),
      context.out,
    );
    equal(stdout().trimEnd(), answer.text.trimEnd());
  }
  const gone = new ApiClient({ url, signal }).nodeId();
  await rejects(gone, (error: AppError) => error.code === "node_unreachable");
});

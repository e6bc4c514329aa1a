import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type Asked, cardOf, FINISH, TINY, token } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

Deno.test("run streams the answer to stdout and its speed to stderr", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const { code, stdout, stderr } = await node.run(["run", "tiny", "hi"]);
  deepEqual([code, stdout], [0, "Hello world\n"]);
  match(stderr, /^First token after \d+ ms, then 10\.0 tok\/s\n$/);
});

Deno.test("run --json prints one object", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const answer = await node.json(["run", "tiny", "hi"]) as Record<string, unknown>;
  const { ttftMs, ...rest } = answer;
  ok(typeof ttftMs === "number" && ttftMs > 0);
  deepEqual(rest, {
    modelId: TINY,
    text: "Hello world",
    finishReason: "stop",
    usage: { promptTokens: 5, completionTokens: 2, totalTokens: 7, cachedTokens: 0 },
    tokensPerSecond: 10,
  });
});

Deno.test("run sends instructions, sampling and stop strings", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const flags =
    "--system s --max-tokens 9 --temperature 0 --top-p 0.5 --seed -1 --stop a --stop b " +
    "--top-k 40 --min-p 0.1 --repetition-penalty 1.1 --repetition-context 64 " +
    "--presence-penalty -0.5 --frequency-penalty 0.25";
  equal((await node.run(["run", "tiny", "hi", ...flags.split(" ")])).code, 0);
  deepEqual(node.gateway.asked[0]?.payload, {
    messages: [{ role: "system", content: "s" }, { role: "user", content: "hi" }],
    sampling: {
      temperature: 0,
      topP: 0.5,
      topK: 40,
      minP: 0.1,
      repetitionPenalty: 1.1,
      repetitionContextTokens: 64,
      presencePenalty: -0.5,
      frequencyPenalty: 0.25,
    },
    maxTokens: 9,
    stop: ["a", "b"],
    seed: "18446744073709551615",
    client: "127.0.0.1",
  });
});

Deno.test("run takes its prompt from the argument, from a pipe, or from both", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  await node.run(["run", "tiny"], { stdin: "piped\n" });
  await node.run(["run", "tiny", "Summarise"], { stdin: "piped\n" });
  await node.run(["run", "tiny", "alone"], { stdin: "" });
  const prompts = node.gateway.asked.map(({ payload }) => payload.messages[0]?.content);
  deepEqual(prompts, ["piped", "Summarise\n\npiped", "alone"]);
});

Deno.test("run without any prompt is a usage error that says how", async () => {
  await using node = await FakeNode.start();
  const piped = await node.run(["run", "tiny"], { stdin: "\n" });
  // A program that asks for JSON is no person to chat with, whatever its stdin is.
  const program = await node.run(["run", "tiny", "--json"]);
  deepEqual([piped.code, program.code], [2, 2]);
  match(piped.stderr, /hint: exo run MODEL "your question", or pipe text into it/);
});

Deno.test("run places a known model that has no instance, then asks it", async () => {
  await using node = await FakeNode.start();
  const { gateway } = node;
  gateway.addCard(cardOf());
  gateway.readyWhatIsPlaced();
  const { code, stdout, stderr } = await node.run(["run", "tiny", "hi"]);
  deepEqual([code, stdout], [0, "Hello world\n"]);
  match(stderr, /^Creating an instance of local\/tiny-0123abcd\n/);
  equal(gateway.state().instances.size, 1);
});

Deno.test("run of an unknown model exits with 4", async () => {
  await using node = await FakeNode.start();
  equal((await node.run(["run", "nope", "hi"])).code, 4);
});

Deno.test("run exits with 1 when the generation fails, after the text that came", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const error = { code: "runner_failed", message: "Runner died", hint: "try again" } as const;
  node.gateway.answer = () => [token("Hel"), { type: "Error", error }];
  const { code, stdout, stderr } = await node.run(["run", "tiny", "hi"]);
  deepEqual([code, stdout], [1, "Hel"]);
  match(stderr, /error: Runner died\nhint: try again/);
});

Deno.test("An interrupt ends run with 130 and cancels the generation", async () => {
  await using node = await FakeNode.start();
  node.gateway.placeModel();
  const cancelled = Promise.withResolvers<void>();
  node.gateway.answer = async function* ({ signal }: Asked) {
    signal.addEventListener("abort", () => cancelled.resolve());
    yield token("Hi");
    await cancelled.promise;
    yield FINISH;
  };
  const interrupt = new AbortController();
  const { code, stdout } = await node.run(["run", "tiny", "hi"], {
    signal: interrupt.signal,
    onStdout: () => interrupt.abort(),
  });
  deepEqual([code, stdout], [130, "Hi"]);
  await cancelled.promise;
});

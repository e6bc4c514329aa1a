import { z } from "zod";
import { ApiClient } from "../api/client.ts";
import { directories } from "../core/directories.ts";
import { AppError } from "../core/errors.ts";
import { type CommandContext, defineCommand } from "./command.ts";
import { fetchDefaultModel } from "./default_model.ts";
import { type Host, interruptible, setupFailed, startHost } from "./host.ts";
import { follow } from "./instance_view.ts";
import { configureLogs } from "./logs.ts";
import { type Network, NETWORK_FLAGS, openToAll, readNetwork } from "./network_flags.ts";
import type { Output } from "./output.ts";
import { API_PORT } from "./serve.ts";

const QUESTION = "What is the capital of France?";

/** Most tokens of the demo's answer: enough for a sentence or two. */
const ANSWER_TOKENS_MAX = 64;

/** Ports that are tried before giving up when the usual one is taken. */
const PORTS_TRIED = 20;

/** `exo demo`: the main job, from nothing to an answer. */
export const demo = defineCommand({
  name: "demo",
  summary: "Set up, start a node, load a real model and stream an answer",
  description: "The node stays up until it is interrupted",
  example: "demo",
  isLocal: true,
  args: z.object(NETWORK_FLAGS),
  json: z.strictObject({
    model: z.string().describe("Whole id of the model that answered"),
    question: z.string().describe("What it was asked"),
    answer: z.string().describe("What it answered"),
    ttftMs: z.number().int().describe("Milliseconds from the question to the first text"),
    tokensPerSecond: z.number().nullable()
      .describe("Speed after the first token, as the engine measured it"),
  }),
  async run({ args, io, out, signal }) {
    await configureLogs({ level: "warning", format: "text", sink: io.stderr });
    const network = await readNetwork(args, io);
    const modelPath = await fetchModel(io, out);
    const host = await startOnFreePort(network, io, out);
    try {
      const client = new ApiClient({ url: host.api?.url ?? "", apiKey: undefined, signal });
      const { id } = await client.addModel(modelPath);
      await readyInstance(client, id, out);
      await answer(client, id, out);
      showNext(host, id, out);
      if (!signal.aborted) {
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      }
    } finally {
      await host.stop();
    }
  },
});

async function fetchModel(io: CommandContext<unknown>["io"], out: Output): Promise<string> {
  try {
    const model = fetchDefaultModel(directories(io).cache, (line) => out.note(line));
    return await interruptible(model, io);
  } catch (cause) {
    throw cause instanceof AppError ? cause : setupFailed(cause);
  }
}

/** The usual port, or the next one that is free. */
async function startOnFreePort(
  { network, ringPorts, warnings }: Network,
  io: CommandContext<unknown>["io"],
  out: Output,
): Promise<Host> {
  const served = { host: "127.0.0.1", auth: true, worker: true, api: true };
  const options = { ...served, network, ringPorts };
  for (const warning of warnings) out.note(warning);
  if (!network.privateNetworkKey) out.note(`Note: ${openToAll(network)}`);
  const onProgress = (line: string) => out.note(line);
  for (let port = API_PORT;; port++) {
    try {
      const host = await startHost({ ...options, port, onProgress }, io);
      out.note(`Node ${host.node.nodeId} serves ${host.api?.url}`);
      return host;
    } catch (cause) {
      const isTaken = cause instanceof AppError && cause.code === "conflict" &&
        cause.message.includes("port is taken");
      if (!isTaken || port + 1 >= API_PORT + PORTS_TRIED) throw cause;
    }
  }
}

/** An instance of an earlier demo comes back by itself; else one is made. */
async function readyInstance(client: ApiClient, model: string, out: Output): Promise<void> {
  const { running } = await client.showModel(model);
  if (!running) await client.placeInstance({ model });
  await follow(client.awaitInstance({ model }), out);
}

async function answer(client: ApiClient, model: string, out: Output): Promise<void> {
  out.note(`\n> ${QUESTION}`);
  const startedAt = performance.now();
  const messages = [{ role: "user" as const, content: QUESTION }];
  let ttftMs = 0;
  let text = "";
  const request = { model, messages, temperature: 0, maxTokens: ANSWER_TOKENS_MAX };
  for await (const event of client.chat(request)) {
    if (event.type === "text") {
      ttftMs ||= performance.now() - startedAt;
      text += event.text;
      out.text(event.text);
    }
    if (event.type !== "finish") continue;
    const speed = event.tokensPerSecond?.toFixed(1) ?? "?";
    const stats = { model, question: QUESTION, answer: text, ttftMs: Math.round(ttftMs) };
    out.result({ ...stats, tokensPerSecond: event.tokensPerSecond ?? null }, "");
    out.note(`\n\nFirst token after ${Math.round(ttftMs)} ms, then ${speed} tokens per second`);
  }
}

function showNext({ api }: Host, model: string, out: Output): void {
  const url = api?.url ?? "";
  const option = url.endsWith(`:${API_PORT}`) ? "" : ` --url ${url}`;
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }], stream: true });
  out.note([
    "",
    "The node is up; Ctrl-C stops it. In another terminal:",
    "",
    `  npx -y deno task exo run ${model} "Write a haiku about the sea"${option}`,
    `  npx -y deno task exo status${option}`,
    `  curl -N ${url}/v1/chat/completions -H 'content-type: application/json' -d '${body}'`,
    "",
    `Any OpenAI client works with the base URL ${url}/v1`,
  ].join("\n"));
}

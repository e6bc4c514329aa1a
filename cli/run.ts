import { z } from "zod";
import type { ApiClient } from "../api/client.ts";
import type { ChatEvent, Turn } from "../api/client_chat.ts";
import { AppError } from "../core/errors.ts";
import { defineCommand } from "./command.ts";
import { follow } from "./instance_view.ts";
import type { Io } from "./io.ts";
import type { Output } from "./output.ts";

/** Silence of a piped stdin after which people are told what is waited for. */
const STDIN_NOTE_MS = 2_000;

/** `exo run`. */
export const run = defineCommand({
  name: "run",
  summary: "Ask a model one question",
  description: "Text piped in is added to the prompt; a model that has no instance gets one",
  example: [
    'run smollm2 "What is the capital of France?"',
    'run smollm2 "Say hello" --temperature 0 --max-tokens 20 --json',
    'run smollm2 "Summarise this" < notes.txt',
  ],
  positionals: ["model", "prompt"],
  args: z.object({
    model: z.string().min(1).describe("Model id, or a prefix that no other model shares"),
    prompt: z.string().optional().describe("What to ask, in quotes"),
    system: z.string().optional().describe("Instructions ahead of the prompt").meta({
      value: "TEXT",
    }),
    maxTokens: z.number().int().min(1).optional().describe("Most tokens of the answer"),
    temperature: z.number().min(0).max(2).optional()
      .describe("0 takes the most likely token, higher values vary more"),
    topP: z.number().min(0).max(1).optional()
      .describe("Share of the probability that tokens are drawn from"),
    seed: z.number().int().optional().describe("Makes an answer repeatable"),
    stop: z.array(z.string().min(1)).default([])
      .describe("Text that ends the answer; may be repeated").meta({ value: "TEXT" }),
  }),
  async run({ args, client, out, io }) {
    const prompt = await promptOf(args.prompt, io, out);
    const model = await readyModel(client, args.model, out);
    const { maxTokens, temperature, topP, seed, stop } = args;
    const system: Turn[] = args.system ? [{ role: "system", content: args.system }] : [];
    const messages: Turn[] = [...system, { role: "user", content: prompt }];
    const sampling = { maxTokens, temperature, topP, seed, stop };
    const startedAt = performance.now();
    const answer = await show(client.chat({ model, messages, ...sampling }), out, startedAt);
    const { ttftMs, tokensPerSecond } = answer;
    const speed = tokensPerSecond === null ? "" : `, ${tokensPerSecond.toFixed(1)} tok/s`;
    out.result(answer, "");
    out.note(
      `${ttftMs === null ? "No text" : `First token after ${Math.round(ttftMs)} ms`}${speed}`,
    );
  },
});

/** The prompt of the command line, of a pipe, or of both, in this order. */
async function promptOf(given: string | undefined, io: Io, out: Output): Promise<string> {
  const piped = io.stdin.isTerminal ? "" : await readPiped(io, out);
  const prompt = [given ?? "", piped.trimEnd()].filter((part) => part !== "").join("\n\n");
  if (prompt !== "") return prompt;
  throw new AppError("usage", "Cannot run without a prompt: found none, text needed", {
    hint: 'exo run MODEL "your question", or pipe text into it',
  });
}

async function readPiped(io: Io, out: Output): Promise<string> {
  const words = "Reading the rest of the prompt from stdin; close it, or add < /dev/null";
  const timer = setTimeout(() => out.note(words), STDIN_NOTE_MS);
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(new AppError("cancelled", "Interrupted"));
  io.signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([io.stdin.readText(), interrupted]);
  } finally {
    clearTimeout(timer);
    io.signal.removeEventListener("abort", onAbort);
  }
}

/** The whole id of a model with a ready instance; makes one when there is none. */
async function readyModel(client: ApiClient, wanted: string, out: Output): Promise<string> {
  const model = await client.showModel(wanted);
  if (!model.running) {
    out.note(`Creating an instance of ${model.id}`);
    await client.placeInstance({ model: model.id });
  }
  await follow(client.awaitInstance({ model: model.id }), out);
  return model.id;
}

/** Shows an answer while it is made, and sums it up. */
async function show(events: AsyncIterable<ChatEvent>, out: Output, startedAt: number) {
  let text = "";
  let ttftMs: number | null = null;
  for await (const event of events) {
    if (event.type === "prefill") {
      out.progress({
        label: "Reading the prompt",
        done: event.processedTokens,
        total: event.totalTokens,
      });
    }
    if (event.type === "text") {
      ttftMs ??= performance.now() - startedAt;
      text += event.text;
      out.text(event.text);
    }
    if (event.type !== "finish") continue;
    if (!text.endsWith("\n")) out.text("\n");
    const { modelId, finishReason, usage } = event;
    const tokensPerSecond = event.tokensPerSecond ?? null;
    return { modelId, text, finishReason, usage: usage ?? null, ttftMs, tokensPerSecond };
  }
  throw new AppError("node_unreachable", "Lost the node before the answer was complete");
}

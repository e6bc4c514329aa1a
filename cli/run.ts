import { z } from "zod";
import type { Turn } from "../api/client_chat.ts";
import { AppError } from "../core/errors.ts";
import { Answer, showAnswer } from "./answer.ts";
import { chat } from "./chat.ts";
import { defineCommand } from "./command.ts";
import type { Io } from "./io.ts";
import type { Output } from "./output.ts";
import { reachNode } from "./reach_node.ts";
import { readyModel } from "./ready_model.ts";
import { SAMPLING_FLAGS, samplingOf } from "./sampling_flags.ts";

/** Silence of a piped stdin after which people are told what is waited for. */
const STDIN_NOTE_MS = 2_000;

/** `exo run`. */
export const run = defineCommand({
  name: "run",
  summary: "Ask a model one question, or chat with it",
  description: "Without a prompt it is a chat, where Ctrl-C stops the answer and Ctrl-D ends. " +
    "Text piped in is added to the prompt. A model that has no instance gets one; " +
    "when no node runs on this machine, one is started for the time of the command",
  example: [
    'run smollm2 "What is the capital of France?"',
    "run smollm2",
    'run ./SmolLM2-135M-Instruct-Q4_1.gguf "Write a haiku about the sea"',
    'run smollm2 "Say hello" --temperature 0 --max-tokens 20 --json',
    'run smollm2 "Summarise this" < notes.txt',
  ],
  positionals: ["model", "prompt"],
  args: z.object({
    model: z.string().min(1)
      .describe("Model id, a prefix that no other model shares, or a GGUF file or folder")
      .meta({ value: "MODEL|PATH" }),
    prompt: z.string().optional().describe("What to ask, in quotes; without it, a chat"),
    system: z.string().optional().describe("Instructions ahead of the prompt").meta({
      value: "TEXT",
    }),
    maxTokens: z.number().int().min(1).optional().describe("Most tokens of the answer"),
    seed: z.number().int().optional().describe("Makes an answer repeatable"),
    stop: z.array(z.string().min(1)).default([])
      .describe("Text that ends the answer; may be repeated").meta({ value: "TEXT" }),
    start: z.boolean().default(true).describe("Start no node when none runs"),
    ...SAMPLING_FLAGS,
  }),
  json: Answer,
  async run(context) {
    const { args, out, io } = context;
    const isChat = args.prompt === undefined && io.stdin.isTerminal && !out.isJson;
    const prompt = isChat ? "" : await promptOf(args.prompt, io, out);
    await using node = await reachNode(context, { mayStart: args.start });
    const model = await readyModel(node, args.model, context);
    const { system, maxTokens, seed, stop } = args;
    const options = { maxTokens, seed, stop, ...samplingOf(args) };
    if (isChat) return await chat({ model, system, options, connect: node.connect }, context);
    const messages: Turn[] = [
      ...(system ? [{ role: "system" as const, content: system }] : []),
      { role: "user", content: prompt },
    ];
    const answer = await showAnswer(node.client.chat({ model, messages, ...options }), out);
    const { ttftMs, tokensPerSecond } = answer;
    const speed = tokensPerSecond === null ? "" : `, then ${tokensPerSecond.toFixed(1)} tok/s`;
    const first = ttftMs === null ? "No text" : `First token after ${Math.round(ttftMs)} ms`;
    out.result(answer, "");
    out.note(first + speed);
    return 0;
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

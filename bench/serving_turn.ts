import process from "node:process";
import { AppError } from "../core/errors.ts";
import { type EventStream, openStream, type Streamed } from "./event_stream.ts";
import { type PromptSize, promptText, sizePrompt } from "./prompt.ts";
import type { RunningServer } from "./server.ts";
import {
  type GapFigures,
  type IntrusionFigures,
  type RepeatFigures,
  SAMPLINGS,
  type ServingFigures,
  type ServingSampling,
  type ServingSettings,
  type ThroughputFigures,
} from "./serving_report.ts";
import { median, percentile } from "./statistics.ts";

/** Streams that run when the long prompt arrives. */
export const RUNNING_STREAMS = 4;

/** Pieces that each of them has when it is sent, so that all decode. */
const PIECES_BEFORE = 8;

/** Tokens of a running stream, at most: it is left once the long prompt has been read. */
export const RUNNING_TOKENS_MAX = 1_024;

/** Pieces of a running stream while nothing else is asked: four streams have some 500 gaps. */
const PIECES_ALONE = 128;

/** Long prompts that arrive amid running streams, one after another. */
const INTRUSIONS = 3;

/** Long prompts that are asked twice. */
const REPEATS = 3;

/** Tokens of the answer to a prompt of which only the first token's time is wanted. */
const SHORT_ANSWER_TOKENS = 4;

/** Prompts whose words are found by asking; a server that has been asked needs no second try. */
export interface ServingPrompts {
  readonly short: PromptSize;
  readonly long: PromptSize;
}

/** Measures one server that runs. @throws {AppError} when it does not answer as asked. */
export async function servingTurn(
  server: RunningServer,
  settings: ServingSettings,
  known?: ServingPrompts,
): Promise<{ figures: ServingFigures; prompts: ServingPrompts }> {
  const client = new Client(server);
  const { pp, longPp, concurrency } = settings;
  const prompts = known ?? { short: await client.size(pp), long: await client.size(longPp) };
  // Every thread and every buffer has been used once before anything counts.
  await client.atOnce(Math.max(...concurrency), prompts.short, { maxTokens: SHORT_ANSWER_TOKENS });
  const throughput: ThroughputFigures[] = [];
  for (const sampling of SAMPLINGS) {
    for (const streams of concurrency) {
      throughput.push(await throughputOf(client, { sampling, streams, settings, prompts }));
    }
  }
  const intrusion = await intrusionOf(client, prompts);
  const repeats: RepeatFigures[] = [];
  for (let done = 0; done < REPEATS; done++) repeats.push(await repeatOf(client, prompts.long));
  return { figures: { throughput, intrusion, repeats }, prompts };
}

interface Asked {
  readonly maxTokens: number;
  readonly sampling?: ServingSampling;
}

/** Asks one server; no two prompts begin alike. */
class Client {
  readonly #server: RunningServer;
  #serial = 0;

  constructor(server: RunningServer) {
    this.#server = server;
  }

  newPrompt({ words }: PromptSize): string {
    return promptText(words, ++this.#serial);
  }

  ask(content: string, { maxTokens, sampling = "greedy" }: Asked): EventStream {
    return openStream(this.#server.url, {
      model: this.#server.model,
      messages: [{ role: "user", content }],
      max_tokens: maxTokens,
      ignore_eos: true,
      ...(sampling === "greedy" ? { temperature: 0 } : {}),
    });
  }

  async atOnce(streams: number, size: PromptSize, asked: Asked): Promise<Streamed[]> {
    const all = Array.from({ length: streams }, () => this.ask(this.newPrompt(size), asked));
    return await Promise.all(all.map(({ ended }) => ended));
  }

  async size(tokens: number): Promise<PromptSize> {
    return await sizePrompt(tokens, async (words) => {
      const { usage } = await this.ask(promptText(words, 0), { maxTokens: 1 }).ended;
      return usage?.promptTokens ?? 0;
    });
  }
}

async function throughputOf(
  client: Client,
  { sampling, streams, settings, prompts }: {
    readonly sampling: ServingSampling;
    readonly streams: number;
    readonly settings: ServingSettings;
    readonly prompts: ServingPrompts;
  },
): Promise<ThroughputFigures> {
  const cpu = new CpuWatch();
  const all = await client.atOnce(streams, prompts.short, { maxTokens: settings.tg, sampling });
  const clientCpuPercent = cpu.percent();
  const completionTokens = all.reduce((sum, { usage }) => sum + (usage?.completionTokens ?? 0), 0);
  if (completionTokens !== streams * settings.tg) {
    throw notAsAsked(`${completionTokens} tokens of ${streams} streams`, streams * settings.tg);
  }
  const began = Math.min(...all.map(({ sentMs }) => sentMs));
  const ended = Math.max(...all.map(({ endedMs }) => endedMs ?? NaN));
  const seconds = (ended - began) / 1_000;
  return {
    ...{ sampling, concurrency: streams, completionTokens, seconds },
    ...{ tokensPerSecond: completionTokens / seconds, clientCpuPercent },
  };
}

/** Running streams, then a long prompt amid them, as often as it takes to have a distribution. */
async function intrusionOf(client: Client, prompts: ServingPrompts): Promise<IntrusionFigures> {
  const cpu = new CpuWatch();
  const all: Intrusion[] = [];
  for (let done = 0; done < INTRUSIONS; done++) all.push(await intrude(client, prompts));
  return {
    streams: RUNNING_STREAMS,
    alone: gapFigures(all.flatMap(({ alone }) => alone)),
    meanwhile: gapFigures(all.flatMap(({ meanwhile }) => meanwhile)),
    longTtftMs: median(all.map(({ longTtftMs }) => longTtftMs)) ?? NaN,
    clientCpuPercent: cpu.percent(),
  };
}

interface Intrusion {
  readonly alone: readonly number[];
  readonly meanwhile: readonly number[];
  readonly longTtftMs: number;
}

/** Lets some streams run, then a long prompt arrive, until its first token; then leaves them. */
async function intrude(client: Client, { short, long }: ServingPrompts): Promise<Intrusion> {
  const running = Array.from(
    { length: RUNNING_STREAMS },
    () => client.ask(client.newPrompt(short), { maxTokens: RUNNING_TOKENS_MAX }),
  );
  await Promise.all(running.map((stream) => stream.piece(PIECES_BEFORE)));
  const settledMs = performance.now();
  await Promise.all(running.map((stream) => stream.piece(PIECES_BEFORE + PIECES_ALONE)));
  const arrivedMs = performance.now();
  const intruder = client.ask(client.newPrompt(long), { maxTokens: SHORT_ANSWER_TOKENS });
  await intruder.piece(1);
  const readMs = performance.now();
  for (const stream of running) stream.leave();
  const streams = await Promise.all(running.map(({ ended }) => ended));
  return {
    alone: gapsWithin(streams, [settledMs, arrivedMs]),
    meanwhile: gapsWithin(streams, [arrivedMs, readMs]),
    longTtftMs: ttftMs(await intruder.ended),
  };
}

async function repeatOf(client: Client, size: PromptSize): Promise<RepeatFigures> {
  const prompt = client.newPrompt(size);
  const cold = await client.ask(prompt, { maxTokens: SHORT_ANSWER_TOKENS }).ended;
  const again = await client.ask(prompt, { maxTokens: SHORT_ANSWER_TOKENS }).ended;
  return {
    promptTokens: cold.usage?.promptTokens ?? 0,
    coldTtftMs: ttftMs(cold),
    repeatedTtftMs: ttftMs(again),
    cachedTokens: again.usage?.cachedTokens ?? 0,
  };
}

function ttftMs({ piecesMs: [first], sentMs }: Streamed): number {
  if (first === undefined) throw notAsAsked("an answer without text", 1);
  return first - sentMs;
}

/**
 * The times between the pieces of each stream that overlap with a span of time. A stream that is
 * still silent at the span's end has waited until then.
 */
export function gapsWithin(
  streams: readonly Pick<Streamed, "piecesMs" | "endedMs">[],
  [fromMs, toMs]: readonly [number, number],
): number[] {
  return streams.flatMap(({ piecesMs, endedMs }) => {
    const isRunning = endedMs === undefined || endedMs > toMs;
    const times = piecesMs.filter((ms) => ms < toMs);
    const ends = isRunning ? [...times, piecesMs[times.length] ?? toMs] : times;
    return ends.slice(1).flatMap((ms, i) => ms > fromMs ? [ms - (ends[i] ?? NaN)] : []);
  });
}

function gapFigures(gaps: readonly number[]): GapFigures {
  const [p50, p99] = [percentile(gaps, 50), percentile(gaps, 99)];
  if (p50 === null || p99 === null) throw notAsAsked("no text of any running stream", 1);
  return { count: gaps.length, p50, p99, max: Math.max(...gaps) };
}

/** What this process takes of one core from now on. */
class CpuWatch {
  readonly #startedAt = performance.now();
  readonly #before = process.cpuUsage();

  percent(): number {
    const { user, system } = process.cpuUsage(this.#before);
    return (user + system) / 1_000 / (performance.now() - this.#startedAt) * 100;
  }
}

function notAsAsked(found: string, needed: number): AppError {
  return new AppError("internal", `Cannot measure: found ${found}, ${needed} needed`, {
    hint: "the server must honour ignore_eos, and send each token as it is made",
  });
}

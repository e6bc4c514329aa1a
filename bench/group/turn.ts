import { ApiClient } from "../../api/client.ts";
import { AppError } from "../../core/errors.ts";
import type { VirtualNetwork } from "../netns.ts";
import { median } from "../statistics.ts";
import type { Layout } from "./layout.ts";
import type { RunningGroup } from "./player.ts";
import type { GroupFigures, GroupSettings } from "./report.ts";

/** Answers of which the figure of one stream is the median. */
const REPEATS = 5;

/** For how long the links are looked at while nothing is asked: what nodes say anyway. */
const REST_MS = 2_000;

/** Few tokens, so that what is measured is decoding. */
const PROMPT = "Write down all that you know about the sea, one fact after another.";

/** When an answer's first text and its end came, and its tokens. */
interface Stream {
  readonly firstAt: number;
  readonly endedAt: number;
  readonly tokens: number;
}

/** Measures one server that runs. @throws {AppError} when it does not answer as asked. */
export async function groupTurn(
  { url, model }: RunningGroup,
  { ranks }: Layout,
  { network, settings, signal }: {
    readonly network: VirtualNetwork;
    readonly settings: GroupSettings;
    readonly signal: AbortSignal;
  },
): Promise<GroupFigures> {
  const client = new ApiClient({ url, apiKey: undefined, signal });
  const ask = () => oneStream(client, model, settings.tg);
  const askAll = () => Promise.all(Array.from({ length: settings.streams }, ask));
  // Every thread and every buffer has been used once before anything counts.
  await askAll();
  const togetherTokensPerSecond = rateOf(await askAll());
  if (ranks === 1) {
    const aloneTokensPerSecond = await medianOf(async () => rateOf([await ask()]));
    const none = { delayedTokensPerSecond: null, bytesPerToken: null };
    return { aloneTokensPerSecond, togetherTokensPerSecond, ...none };
  }
  const carried = () => carriedBytes(network);
  const found = await medianOf(() => bytesOf(carried, ask));
  // Something else was said on the links while nothing was asked: then nobody knows.
  const bytesPerToken = found > 0 ? found : null;
  const slowly = () => network.shapeAll({ delayMs: settings.delayMs });
  const rates = await inTurns(ask, slowly, () => network.shapeAll({ delayMs: 0 }));
  return { ...rates, togetherTokensPerSecond, bytesPerToken };
}

/** One answer over the links as they are, one over slow ones, and so on: machines change with time. */
async function inTurns(
  ask: () => Promise<Stream>,
  slowly: () => Promise<void>,
  asBefore: () => Promise<void>,
): Promise<Pick<GroupFigures, "aloneTokensPerSecond" | "delayedTokensPerSecond">> {
  const [alone, delayed]: [number[], number[]] = [[], []];
  for (let done = 0; done < REPEATS; done++) {
    alone.push(rateOf([await ask()]));
    await slowly();
    try {
      delayed.push(rateOf([await ask()]));
    } finally {
      await asBefore();
    }
  }
  return {
    aloneTokensPerSecond: median(alone) ?? 0,
    delayedTokensPerSecond: median(delayed),
  };
}

async function medianOf(measure: () => Promise<number>): Promise<number> {
  const found: number[] = [];
  for (let done = 0; done < REPEATS; done++) found.push(await measure());
  return median(found) ?? 0;
}

/** Tokens per second of streams at once, each without its first, from the first text to the end. */
export function rateOf(streams: readonly Stream[]): number {
  const tokens = streams.reduce((sum, stream) => sum + stream.tokens - 1, 0);
  const firstAt = Math.min(...streams.map((stream) => stream.firstAt));
  const endedAt = Math.max(...streams.map((stream) => stream.endedAt));
  return tokens / (endedAt - firstAt) * 1_000;
}

async function oneStream(client: ApiClient, model: string, maxTokens: number): Promise<Stream> {
  const messages = [{ role: "user" as const, content: PROMPT }];
  const how = { temperature: 0, ignoreEos: true, usePrefixCache: false };
  let firstAt: number | undefined;
  for await (const event of client.chat({ model, messages, maxTokens, ...how })) {
    if (event.type === "text") firstAt ??= performance.now();
    if (event.type !== "finish") continue;
    const tokens = event.usage?.completionTokens ?? 0;
    if (tokens !== maxTokens || firstAt === undefined) throw tooShort(tokens, maxTokens);
    return { firstAt, endedAt: performance.now(), tokens };
  }
  throw tooShort(0, maxTokens);
}

function tooShort(tokens: number, maxTokens: number): AppError {
  const message = `Cannot measure an answer of ${tokens} tokens: ${maxTokens} needed`;
  return new AppError("internal", message, {
    hint: "what the server said is in the folder logs beside the peers",
  });
}

/** Bytes between machines for each token, above what goes there when nothing is asked. */
async function bytesOf(
  carried: () => Promise<number>,
  ask: () => Promise<Stream>,
): Promise<number> {
  const restedFrom = await carried();
  const restedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  const from = await carried();
  const askedAt = performance.now();
  const restPerMs = (from - restedFrom) / (askedAt - restedAt);
  const { tokens } = await ask();
  const to = await carried();
  return (to - from - restPerMs * (performance.now() - askedAt)) / tokens;
}

async function carriedBytes(network: VirtualNetwork): Promise<number> {
  let bytes = 0;
  for (const from of network.machines) {
    for (const to of network.machines) {
      if (from !== to) bytes += (await network.counts(from, to)).carriedBytes;
    }
  }
  return bytes;
}

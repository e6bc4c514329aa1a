/**
 * A second opinion on `exo bench`: the official SDK and a clock, nothing of ours.
 * `deno run -A tests/bench/openai_client.ts URL MODEL TG ROUNDS PROMPT` prints medians as JSON.
 */
import OpenAI from "openai";

/** What one answer took. */
export interface Timed {
  readonly ttftMs: number;
  readonly decodeTokensPerSecond: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** Streams one answer at temperature 0 and times its text. */
export async function timeAnswer(
  { url, model, prompt, maxTokens }: Record<"url" | "model" | "prompt", string> & {
    maxTokens: number;
  },
): Promise<Timed> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const startedAt = performance.now();
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: prompt }],
    max_tokens: maxTokens,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  const times: number[] = [];
  let [promptTokens, completionTokens] = [0, 0];
  for await (const { choices, usage } of stream) {
    if (choices[0]?.delta.content) times.push(performance.now());
    promptTokens = usage?.prompt_tokens ?? promptTokens;
    completionTokens = usage?.completion_tokens ?? completionTokens;
  }
  const [first = NaN, last = NaN] = [times[0], times.at(-1)];
  const decodeTokensPerSecond = (times.length - 1) / (last - first) * 1_000;
  return { ttftMs: first - startedAt, decodeTokensPerSecond, promptTokens, completionTokens };
}

if (import.meta.main) {
  const [url = "", model = "", tg = "16", rounds = "3", prompt = ""] = Deno.args;
  const all: Timed[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    all.push(await timeAnswer({ url, model, prompt, maxTokens: Number(tg) }));
  }
  const middle = (key: keyof Timed) =>
    all.map((one) => one[key]).sort((a, b) => a - b)[Math.floor(all.length / 2)];
  const { promptTokens, completionTokens } = all.at(-1) ?? {};
  const medians = {
    ttftMs: middle("ttftMs"),
    decodeTokensPerSecond: middle("decodeTokensPerSecond"),
  };
  const text = JSON.stringify({ ...medians, promptTokens, completionTokens });
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

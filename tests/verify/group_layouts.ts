/** What a model says over several nodes, beside what it says on one: through nodes and the API. */
import assert from "node:assert/strict";
import { z } from "zod";
import type { Sharding } from "../../core/instance.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { within } from "../support/eventually.ts";
import { randomLlama, randomQuantizedLlama } from "../support/eight_heads_llama.ts";
import { TempDir } from "../support/temp_dir.ts";
import type { Say, Tally } from "./tally.ts";

/** Models by what is special about them. */
export const LAYOUT_MODELS = ["smollm2", "random", "random-quantized"] as const;
type LayoutModel = typeof LAYOUT_MODELS[number];

/** One way to spread a model. */
export interface GroupLayout {
  readonly model: LayoutModel;
  readonly sharding: Sharding;
  readonly ranks: number;
}

/** SmolLM2 has 9 query heads and 3 KV heads; the random ones have 8 and 4. */
export const LAYOUTS: readonly GroupLayout[] = [
  ...[2, 3, 4].map((ranks) => ({ model: "smollm2", sharding: "Pipeline", ranks }) as const),
  { model: "smollm2", sharding: "Tensor", ranks: 3 },
  ...(["random", "random-quantized"] as const).flatMap((model) => [
    { model, sharding: "Pipeline", ranks: 2 } as const,
    ...[2, 4].map((ranks) => ({ model, sharding: "Tensor", ranks }) as const),
  ]),
];

/** Different in length and kind; so many are in flight at once, too. */
const PROMPTS = [
  "What is the capital of France?",
  "Count from one to twenty, in words.",
  "Write a short story about a fisherman who finds a bottle. ".repeat(6),
  "zq xv 7 #",
] as const;

/** Tokens of an answer. */
const ANSWER_TOKENS = 48;

/** Small chunks, so that prompts pass the ranks in several steps. */
const CONFIG = { prefillChunkTokens: 32, contextTokens: 1_024, maxConcurrentRequests: 8 };

/** Where the likeliest token leads by less, rounding may choose: sums of parts round otherwise. */
const MARGIN_MIN = 0.1;

/** Most that a token's logprob may differ: a pipeline computes the same, a tensor group rounds. */
const LOGPROB_ERROR_MAX: Readonly<Record<Sharding, number>> = { Pipeline: 1e-5, Tensor: 0.02 };

const MEET_MS_MAX = 60_000;
const READY_SECONDS_MAX = 180;
const ANSWER_MS_MAX = 120_000;

/** What we read of an answer. */
const Reply = z.object({
  choices: z.array(z.object({
    logprobs: z.object({
      content: z.array(z.object({
        bytes: z.array(z.number()),
        logprob: z.number(),
        top_logprobs: z.array(z.object({ logprob: z.number() })).min(2),
      })),
    }),
  })).length(1),
});

/** One token of an answer. */
export interface SaidToken {
  readonly text: string;
  readonly logprob: number;
  /** By how much the likeliest token leads the second one, in nats. */
  readonly margin: number;
}

/** Nodes on loopback, and what each model says on one of them. */
export class LayoutBench implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #paths: Readonly<Record<LayoutModel, string>>;
  readonly #owned: AsyncDisposableStack;
  readonly #references = new Map<LayoutModel, readonly SaidToken[][]>();

  private constructor(
    cluster: Cluster,
    paths: Readonly<Record<LayoutModel, string>>,
    owned: AsyncDisposableStack,
  ) {
    this.#cluster = cluster;
    this.#paths = paths;
    this.#owned = owned;
  }

  /** Starts so many nodes; `smollm2` is the path of its GGUF. */
  static async start(nodes: number, smollm2: string): Promise<LayoutBench> {
    await using owned = new AsyncDisposableStack();
    const dir = owned.use(await TempDir.make());
    const [random, quantized] = [`${dir.path}/random-8-4`, `${dir.path}/random-8-4-q.gguf`];
    await randomLlama(random);
    await randomQuantizedLlama(quantized, smollm2);
    const cluster = owned.use(await startCluster({ nodes, engine: "real" }));
    await cluster.met(MEET_MS_MAX);
    const paths = { smollm2, random, "random-quantized": quantized };
    return new LayoutBench(cluster, paths, owned.move());
  }

  /**
   * Asserts that a layout says what one node says: alone, and with all requests in flight.
   * @returns how many tokens were compared, and the largest difference of a logprob.
   */
  async check(layout: GroupLayout): Promise<Comparison> {
    const reference = await this.#referenceOf(layout.model);
    const { alone, together } = await this.#answersOf(layout);
    const found = [...PROMPTS.keys()].flatMap((at) =>
      [alone, together].map((answers) =>
        compare(reference[at] ?? [], answers[at] ?? [], layout.sharding)
      )
    );
    return {
      tokens: found.reduce((sum, { tokens }) => sum + tokens, 0),
      logprobError: Math.max(...found.map(({ logprobError }) => logprobError)),
      parted: found.reduce((sum, { parted }) => sum + parted, 0),
    };
  }

  async #referenceOf(model: LayoutModel): Promise<readonly SaidToken[][]> {
    const known = this.#references.get(model);
    if (known) return known;
    const { alone, together } = await this.#answersOf({ model, sharding: "Pipeline", ranks: 1 });
    assert.deepEqual(textsOf(together), textsOf(alone), "one node says the same to many");
    this.#references.set(model, alone);
    return alone;
  }

  async #answersOf({ model: name, sharding, ranks }: GroupLayout) {
    const nodes = this.#cluster.nodes.slice(0, ranks);
    let model = "";
    for (const { client } of nodes) model = (await client.addModel(this.#paths[name])).id;
    const { client } = this.#cluster.node(0);
    const nodeIds = nodes.map(({ nodeId }) => nodeId);
    const { instanceId } = await client.placeInstance({
      ...{ model, sharding, minNodes: ranks, nodeIds, exact: true, config: CONFIG },
    });
    try {
      const limit = { timeoutSeconds: READY_SECONDS_MAX };
      for await (const _ of client.awaitInstance({ instanceId }, limit));
      await this.#requireRanks(instanceId, ranks);
      const ask = (prompt: string) => answerOf(client.url, model, prompt);
      const alone: SaidToken[][] = [];
      for (const prompt of PROMPTS) alone.push(await ask(prompt));
      return { alone, together: await Promise.all(PROMPTS.map(ask)) };
    } finally {
      // The next layout's requests must not come here.
      await client.deleteInstance(instanceId);
    }
  }

  /** A layout that was placed on fewer nodes would prove nothing. */
  async #requireRanks(instanceId: string, ranks: number): Promise<void> {
    const { runners } = await this.#cluster.node(0).state();
    const own = Object.keys(runners).filter((id) => id.startsWith(instanceId));
    assert.equal(own.length, ranks, `runners: ${own.join(", ")}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** What came of a comparison. */
export interface Comparison {
  readonly tokens: number;
  readonly logprobError: number;
  /** Answers that went another way where the likeliest token hardly led. */
  readonly parted: number;
}

/**
 * Compares an answer with that of one node, token by token. Of a tensor group it may part where the
 * likeliest token leads by less than {@linkcode MARGIN_MIN}; what follows is another text.
 * @throws what differs.
 */
export function compare(
  reference: readonly SaidToken[],
  found: readonly SaidToken[],
  sharding: Sharding,
): Comparison {
  assert.equal(reference.length, ANSWER_TOKENS, "the single node's answer is whole");
  assert.equal(found.length, reference.length, "the answer is whole");
  let logprobError = 0;
  for (const [at, { text, logprob, margin }] of reference.entries()) {
    const said = found[at];
    if (said?.text !== text) {
      const mayPart = sharding === "Tensor" && margin <= MARGIN_MIN;
      assert.ok(mayPart, `token ${at}: "${said?.text}", not "${text}", which leads by ${margin}`);
      return { tokens: at, logprobError, parted: 1 };
    }
    logprobError = Math.max(logprobError, Math.abs(said.logprob - logprob));
    const most = LOGPROB_ERROR_MAX[sharding];
    assert.ok(logprobError <= most, `token ${at}: a logprob off by ${logprobError}, over ${most}`);
  }
  return { tokens: reference.length, logprobError, parted: 0 };
}

const textsOf = (answers: readonly SaidToken[][]) =>
  answers.map((tokens) => tokens.map(({ text }) => text));

/** The likeliest tokens, one after the other. */
async function answerOf(url: string, model: string, prompt: string): Promise<SaidToken[]> {
  const body = JSON.stringify({
    ...{ model, messages: [{ role: "user", content: prompt }], temperature: 0 },
    ...{ max_completion_tokens: ANSWER_TOKENS, ignore_eos: true },
    // What one request computed must not answer for the next one.
    ...{ logprobs: true, top_logprobs: 2, use_prefix_cache: false },
  });
  const headers = { "content-type": "application/json" };
  const asked = fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
  const response = await within("an answer", asked, ANSWER_MS_MAX);
  const text = await within("the answer's end", response.text(), ANSWER_MS_MAX);
  assert.ok(response.ok, text);
  const [choice] = Reply.parse(JSON.parse(text)).choices;
  return (choice?.logprobs.content ?? []).map((
    { bytes, logprob, top_logprobs: [first, second] },
  ) => ({
    text: new TextDecoder().decode(new Uint8Array(bytes)),
    logprob,
    margin: (first?.logprob ?? 0) - (second?.logprob ?? 0),
  }));
}

/** What a layout is called in reports. */
export function layoutName({ model, sharding, ranks }: GroupLayout): string {
  return `${model}, ${sharding.toLowerCase()} over ${ranks}`;
}

/** Runs the layouts from one number to another. */
export async function verifyLayouts(
  { from, to, smollm2 }: { readonly from: number; readonly to: number; readonly smollm2: string },
  say: Say,
): Promise<Tally> {
  let [passed, failed] = [0, 0];
  await using bench = await LayoutBench.start(4, smollm2);
  for (const [n, layout] of LAYOUTS.entries()) {
    if (n < from || n > to) continue;
    try {
      const { tokens, logprobError, parted } = await bench.check(layout);
      passed++;
      say(
        `${n} ${layoutName(layout)}: ok (${tokens} tokens, logprobs off by ${logprobError} at ` +
          `most, answers that parted at a narrow lead: ${parted})`,
      );
    } catch (cause) {
      failed++;
      say(`${n} ${layoutName(layout)}: FAILED: ${String(cause)}`);
      say(`  replay: deno task verify layouts --from ${n} --to ${n}`);
    }
  }
  return { passed, failed };
}

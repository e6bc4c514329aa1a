/** What a model says over several nodes, beside what it says on one: through nodes and the API. */
import assert from "node:assert/strict";
import type { Sharding } from "../../core/instance.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { writeDenseFolder } from "../support/dense_folder.ts";
import { randomLlama, randomQuantizedLlama } from "../support/eight_heads_llama.ts";
import { TempDir } from "../support/temp_dir.ts";
import { type Allowance, compare, type Comparison, inAll } from "./answer_comparison.ts";
import { answerOf, answersOf, type SaidToken } from "./greedy_answer.ts";
import { askTogether } from "./requests_together.ts";
import type { Say, Tally } from "./tally.ts";
import { heardOfMemory } from "./three_nodes.ts";

/** Models by what is special about them: SmolLM2 is in Q4_1 or, dense, in f32; so are the random. */
type LayoutModel = "smollm2" | "smollm2-dense" | "random" | "random-quantized";

/** One way to spread a model. */
export interface GroupLayout {
  readonly model: LayoutModel;
  readonly sharding: Sharding;
  readonly ranks: number;
}

/** SmolLM2 has 9 query heads and 3 KV heads; the random ones have 8 and 4. */
export const LAYOUTS: readonly GroupLayout[] = [
  ...(["smollm2", "smollm2-dense"] as const).flatMap((model) => [
    ...[2, 3, 4].map((ranks) => ({ model, sharding: "Pipeline", ranks }) as const),
    { model, sharding: "Tensor", ranks: 3 } as const,
  ]),
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

/** Small chunks, so that prompts pass the ranks in several steps. */
const CONFIG = { prefillChunkTokens: 32, contextTokens: 1_024, maxConcurrentRequests: 8 };

/** By how much logprobs may differ: a pipeline computes the same, a tensor group rounds. */
export function allowanceOf({ model, sharding }: GroupLayout): Allowance {
  if (sharding === "Pipeline") return { sharding, logprobError: 0, divergence: 0 };
  return {
    sharding,
    logprobError: TENSOR_LOGPROB_ERRORS[model],
    divergence: TENSOR_DIVERGENCES[model],
  };
}

/**
 * Most that a logprob may differ in a tensor group. For tiny models in f32 the spec allows a logit
 * 1e-4 (worker-engines.md, 12.3, and tests/engines/models/slices_test.ts); a logprob is a logit less
 * the logarithm of a sum over all, either of which may be off by that. The others are about twice
 * what was measured: where sums round otherwise, so do the keys and values, which are kept in 16
 * bits, and in quantised models what goes into each matrix as well.
 */
const TENSOR_LOGPROB_ERRORS: Readonly<Record<LayoutModel, number>> = {
  ...{ random: 2e-4, "random-quantized": 0.001 },
  ...{ smollm2: 0.0055, "smollm2-dense": 0.008 },
};

/**
 * Most that a token's distribution may diverge in a tensor group, in nats: for bf16 and quantised
 * models the spec wants "KL under a stated bound" (worker-engines.md, 12.3), which this is, as far as
 * the 20 likeliest tokens show. It is about twice the largest that was measured of 512 tokens a
 * layout: 2.4e-9 of the random models, 1.3e-5 of SmolLM2 in Q4_1, 3.7e-6 of it in f32.
 *
 * The spec wants "the same greedy tokens for 64 steps on >= 99 % of prompts" as well. We ask for more
 * where one node is sure, and nothing where it is not: every prompt has the same tokens until the
 * likeliest leads by 0.1 at most, where rounding may choose. Then another text begins, and nothing is
 * compared any more: of the random quantised model over two ranks, whose tokens stand close, two
 * answers of eight part, and 420 tokens of 512 are compared.
 */
const TENSOR_DIVERGENCES: Readonly<Record<LayoutModel, number>> = {
  ...{ random: 5e-9, "random-quantized": 5e-9 },
  ...{ smollm2: 2.6e-5, "smollm2-dense": 7.5e-6 },
};

const MEET_MS_MAX = 60_000;
const READY_SECONDS_MAX = 180;

/** Nodes on loopback, and what each model says on one of them. */
export class LayoutBench implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #dir: string;
  readonly #smollm2: string;
  readonly #owned: AsyncDisposableStack;
  readonly #paths = new Map<LayoutModel, string>();
  readonly #references = new Map<LayoutModel, Answers>();

  private constructor(
    cluster: Cluster,
    { dir, smollm2, owned }: { dir: string; smollm2: string; owned: AsyncDisposableStack },
  ) {
    this.#cluster = cluster;
    this.#dir = dir;
    this.#smollm2 = smollm2;
    this.#owned = owned;
  }

  /** Starts so many nodes; `smollm2` is the path of its GGUF. */
  static async start(nodes: number, smollm2: string): Promise<LayoutBench> {
    await using owned = new AsyncDisposableStack();
    const dir = owned.use(await TempDir.make());
    const env = { EXO_TRACING_ENABLED: "true" };
    const cluster = owned.use(
      await startCluster({ nodes, engine: "real", isOrdered: true, env }),
    );
    await cluster.met(MEET_MS_MAX);
    await heardOfMemory(cluster);
    return new LayoutBench(cluster, { dir: dir.path, smollm2, owned: owned.move() });
  }

  /**
   * Asserts that a layout says what one node says: alone, and with all requests in flight.
   * @returns what came of it, and for how many milliseconds all were decoded at once.
   */
  async check(layout: GroupLayout): Promise<Comparison & { sharedMs: number }> {
    const reference = await this.#referenceOf(layout.model);
    const { alone, together, sharedMs } = await this.#answersOf(layout);
    const allowance = allowanceOf(layout);
    const found = [...PROMPTS.keys()].flatMap((at) =>
      [alone, together].map((answers) => compare(reference[at] ?? [], answers[at] ?? [], allowance))
    );
    return { ...inAll(found, layout.sharding), sharedMs };
  }

  async #referenceOf(model: LayoutModel): Promise<Answers> {
    const known = this.#references.get(model);
    if (known) return known;
    const { alone, together } = await this.#answersOf({ model, sharding: "Pipeline", ranks: 1 });
    assert.deepEqual(together, alone, "one node says the same to many");
    this.#references.set(model, alone);
    return alone;
  }

  async #answersOf(layout: GroupLayout): Promise<Answered> {
    const { sharding, ranks } = layout;
    const path = await this.#pathOf(layout.model);
    const nodes = this.#cluster.nodes.slice(0, ranks);
    let model = "";
    for (const { client } of nodes) model = (await client.addModel(path)).id;
    const { client } = this.#cluster.node(0);
    const nodeIds = nodes.map(({ nodeId }) => nodeId);
    const { instanceId } = await client.placeInstance({
      ...{ model, sharding, minNodes: ranks, nodeIds, exact: true, config: CONFIG },
    });
    try {
      const limit = { timeoutSeconds: READY_SECONDS_MAX };
      for await (const _ of client.awaitInstance({ instanceId }, limit));
      await this.#requireRanks(instanceId, ranks);
      const asked = { url: client.url, model };
      const alone: SaidToken[][] = [];
      for (const prompt of PROMPTS) alone.push(await answerOf(asked, prompt));
      const ask = () => answersOf(asked, PROMPTS);
      const { answers: together, sharedMs } = await askTogether(nodes, PROMPTS.length, ask);
      return { alone, together, sharedMs };
    } finally {
      // The next layout's requests must not come here.
      await client.deleteInstance(instanceId);
    }
  }

  /** Where a model lies, which is written when it is first needed. */
  async #pathOf(model: LayoutModel): Promise<string> {
    const known = this.#paths.get(model);
    if (known) return known;
    const path = await writeModel(model, this.#dir, this.#smollm2);
    this.#paths.set(model, path);
    return path;
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

/** Each prompt's answer. */
type Answers = readonly (readonly SaidToken[])[];

/** What a layout says to each prompt alone, and to all at once. */
interface Answered {
  readonly alone: Answers;
  readonly together: Answers;
  /** For how long all were decoded at once. */
  readonly sharedMs: number;
}

/** Puts a model into a folder, and tells its path. */
async function writeModel(model: LayoutModel, dir: string, smollm2: string): Promise<string> {
  if (model === "smollm2") return smollm2;
  const path = `${dir}/${model}${model === "random-quantized" ? ".gguf" : ""}`;
  if (model === "random") await randomLlama(path);
  else if (model === "random-quantized") await randomQuantizedLlama(path, smollm2);
  else await writeDenseFolder(path, smollm2);
  return path;
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
      const { tokens, logprobError, divergence, parted, sharedMs } = await bench.check(layout);
      passed++;
      say(
        `${n} ${layoutName(layout)}: ok (${tokens} tokens, logprobs off by ${logprobError} at ` +
          `most, diverging by ${divergence}; answers that parted at a narrow lead: ${parted}; ` +
          `all requests decoded for ${Math.round(sharedMs)} ms at once)`,
      );
    } catch (cause) {
      failed++;
      say(`${n} ${layoutName(layout)}: FAILED: ${String(cause)}`);
      say(`  replay: deno task verify layouts --from ${n} --to ${n}`);
    }
  }
  return { passed, failed };
}

import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { ErrorInfo } from "../../core/errors.ts";
import type { Shard } from "../../core/instance.ts";
import type { BoundModel, GenerationTask } from "../../engines/engine.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { answerAlone, textOf } from "./text_engine.ts";
import { within } from "./eventually.ts";
import { GROUP_RANK_MAIN } from "./programs.ts";

/** What the first rank gave. */
export interface RankAnswers {
  readonly texts: Readonly<Record<string, string>>;
  readonly tokens: number;
  readonly ms: number;
  readonly kvBytes: number;
}

/** How a model is divided. */
export type Sharding = "pipeline" | "tensor";

/** A model's ranks, as even as they can be. */
export function ranksOf(whole: BoundModel, size: number, sharding: Sharding): BoundModel[] {
  const { nLayers, modelCard } = whole.shard;
  const border = (rank: number) => Math.round(rank * nLayers / size);
  return Array.from({ length: size }, (_, deviceRank): BoundModel => {
    const common = { modelCard, nLayers, deviceRank, worldSize: size };
    const shard: Shard = sharding === "tensor"
      ? { type: "TensorShardMetadata", ...common, startLayer: 0, endLayer: nLayers }
      : {
        ...{ type: "PipelineShardMetadata", ...common },
        ...{ startLayer: border(deviceRank), endLayer: border(deviceRank + 1) },
      };
    return { ...whole, shard };
  });
}

/** Asserts that ranks answer what one engine answers, and leave nothing. */
export async function compareRanks(
  { model, size, sharding, requests, ...traits }: RankTraits & {
    readonly model: BoundModel;
    readonly size: number;
    readonly sharding: Sharding;
    readonly requests: readonly GenerationTask[];
  },
): Promise<void> {
  const { answers, ends } = await answersOfRanks(ranksOf(model, size, sharding), requests, traits);
  const { isPacked } = traits;
  const builder = new TextBuilder(isPacked === undefined ? {} : { isPacked });
  for (const _ of builder.load(model));
  const engine = builder.build();
  ok(engine instanceof TextEngine);
  const alone = requests.map((
    { taskId, payload },
  ) => [taskId, textOf(answerAlone(engine, payload))]);
  engine.close();
  deepEqual(answers.texts, Object.fromEntries(alone));
  equal(answers.kvBytes, 0);
  equal(ends.length, size - 1);
  for (const end of ends) {
    equal(end?.error.code, "group_broken");
    match(end?.error.message ?? "", /Rank \d on "node-\d"/);
  }
}

/** How long all of it may take on a machine that has much else to do. */
const LIMIT_MS = 180_000;

/** A rank that waits for what it is told: a line of JSON. */
export function spawnRank(): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", GROUP_RANK_MAIN],
    ...{ stdin: "piped", stdout: "piped", stderr: "inherit" },
  }).spawn();
}

/** Ends a rank that may have ended by itself. */
export function killRank(rank: Deno.ChildProcess): void {
  try {
    rank.kill("SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** What a rank says, line by line. */
export async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line);
  }
}

/** What computes, and what sums: our kernels and our sockets unless it is said. */
export interface RankTraits {
  readonly isPacked?: boolean;
  readonly sumsByMlx?: boolean;
}

/** A model whose ranks are processes on this machine, from start to the answers. */
export async function answersOfRanks(
  models: readonly BoundModel[],
  requests: readonly GenerationTask[],
  traits: RankTraits = {},
): Promise<{ answers: RankAnswers; ends: readonly ({ error: ErrorInfo } | undefined)[] }> {
  const ranks = models.map(spawnRank);
  try {
    return await within(
      "the ranks to answer",
      play(ranks, { models, requests, ...traits }),
      LIMIT_MS,
    );
  } catch (error) {
    ranks.forEach(killRank);
    throw error;
  } finally {
    await Promise.all(ranks.map(({ status }) => status));
  }
}

/** Says all that a rank is ever told. */
export async function tell({ stdin }: Deno.ChildProcess, task: unknown): Promise<void> {
  const writer = stdin.getWriter();
  await writer.write(new TextEncoder().encode(`${JSON.stringify(task)}\n`));
  await writer.close();
}

async function play(
  ranks: readonly Deno.ChildProcess[],
  { models, requests, isPacked, sumsByMlx }: RankTraits & {
    readonly models: readonly BoundModel[];
    readonly requests: readonly GenerationTask[];
  },
) {
  const outputs = ranks.map(({ stdout }) => linesOf(stdout));
  const next = async (rank: number) => (await outputs[rank]?.next())?.value;
  const ports = await Promise.all(ranks.map((_, rank) => next(rank)));
  const hosts = ports.map(({ port }) => ({ ip: "127.0.0.1", port }));
  const mlxHosts = sumsByMlx ? ports.map(({ mlxPort }) => `127.0.0.1:${mlxPort}`) : undefined;
  const size = ranks.length;
  const names = ranks.map((_, rank) => `node-${rank}`);
  await Promise.all(ranks.map((process, rank) => {
    const spec = { groupId: "test/1", rank, size, names, link: { type: "ring", hosts } };
    return tell(process, { spec, model: models[rank], requests, mlxHosts, isPacked });
  }));
  const [answers, ...ends] = await Promise.all(ranks.map((_, rank) => next(rank)));
  await Promise.all(outputs.map(async (output) => {
    for await (const _ of output);
  }));
  if (answers?.error) throw new Error(answers.error.message);
  return { answers, ends };
}

import type { BoundModel, GenerationTask } from "../../engines/engine.ts";
import type { ErrorInfo } from "../../core/errors.ts";
import { within } from "./eventually.ts";
import { GROUP_RANK_MAIN } from "./programs.ts";

/** What the first rank gave. */
export interface RankAnswers {
  readonly texts: Readonly<Record<string, string>>;
  readonly tokens: number;
  readonly ms: number;
  readonly kvBytes: number;
}

/** How long all of it may take on a machine that has much else to do. */
const LIMIT_MS = 180_000;

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line);
  }
}

/** A model whose ranks are processes on this machine, from start to the answers. */
export async function answersOfRanks(
  models: readonly BoundModel[],
  requests: readonly GenerationTask[],
): Promise<{ answers: RankAnswers; ends: readonly ({ error: ErrorInfo } | undefined)[] }> {
  const ranks = models.map(() =>
    new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", GROUP_RANK_MAIN],
      ...{ stdin: "piped", stdout: "piped", stderr: "inherit" },
    }).spawn()
  );
  try {
    return await within("the ranks to answer", play(ranks, models, requests), LIMIT_MS);
  } catch (error) {
    for (const rank of ranks) {
      try {
        rank.kill("SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    throw error;
  } finally {
    await Promise.all(ranks.map(({ status }) => status));
  }
}

async function play(
  ranks: readonly Deno.ChildProcess[],
  models: readonly BoundModel[],
  requests: readonly GenerationTask[],
) {
  const outputs = ranks.map(({ stdout }) => linesOf(stdout));
  const next = async (rank: number) => (await outputs[rank]?.next())?.value;
  const ports = await Promise.all(ranks.map((_, rank) => next(rank)));
  const hosts = ports.map(({ port }) => ({ ip: "127.0.0.1", port }));
  const size = ranks.length;
  const names = ranks.map((_, rank) => `node-${rank}`);
  await Promise.all(ranks.map(async ({ stdin }, rank) => {
    const spec = { groupId: "test/1", rank, size, names, link: { type: "ring", hosts } };
    const line = JSON.stringify({ spec, model: models[rank], requests });
    const writer = stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${line}\n`));
    await writer.close();
  }));
  const [answers, ...ends] = await Promise.all(ranks.map((_, rank) => next(rank)));
  await Promise.all(outputs.map(async (output) => {
    for await (const _ of output);
  }));
  if (answers?.error) throw new Error(answers.error.message);
  return { answers, ends };
}

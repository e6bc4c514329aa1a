/**
 * One of several runners of a machine, as a program: waits until all have loaded the model, then
 * decodes one sequence after another. Takes a {@linkcode RunnersTask} as JSON, prints a
 * {@linkcode RunnerFigures}.
 */
import { join } from "node:path";
import { GREEDY } from "../engines/decoder.ts";
import { anyIds, bindModel, type OpenModel, openModel } from "./open_model.ts";
import type { RunnerFigures, RunnersTask } from "./runners_report.ts";

/** Sequences are no longer than this, so that a turn is not about attention. */
const POSITIONS_MAX = 512;

const PROMPT_TOKENS = 64;

/** Tokens before anything counts. */
const WARMUP_TOKENS = 32;

const LOOK_MS = 2;

/** Says that this runner has loaded, and waits until all have. */
async function meet({ folder, count }: RunnersTask): Promise<void> {
  await Deno.writeTextFile(join(folder, String(Deno.pid)), "");
  while ([...Deno.readDirSync(folder)].length < count) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** One token is drawn after the last. */
const ONE = { logitsCount: 1, draw: GREEDY };

/** Tokens for ever, of one sequence after another. */
function* decode({ decoder, vocabSize }: OpenModel): Generator<number> {
  for (let serial = 0;; serial++) {
    using cache = decoder.makeCache();
    const ids = anyIds(PROMPT_TOKENS, { serial, vocabSize });
    let id = decoder.run([{ cache, ids, ...ONE }]).drawn(0).id;
    for (let at = PROMPT_TOKENS; at < POSITIONS_MAX; at++) {
      id = decoder.run([{ cache, ids: [id], ...ONE }]).drawn(0).id;
      yield id;
    }
  }
}

const task: RunnersTask = JSON.parse(Deno.args[0] ?? "");
using model = openModel(bindModel(task.path, (await Deno.stat(task.path)).size));
const tokens = decode(model);
for (let i = 0; i < WARMUP_TOKENS; i++) tokens.next();
await meet(task);
const gapsMs: number[] = [];
const startedAt = performance.now();
for (let last = startedAt; last - startedAt < task.seconds * 1_000;) {
  tokens.next();
  const now = performance.now();
  gapsMs.push(now - last);
  last = now;
}
const figures: RunnerFigures = { gapsMs };
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(figures)));

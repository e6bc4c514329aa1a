/**
 * Simulated clusters, by seeds: faults and load, then healing; see docs/hacking.md.
 *
 *     deno task sim --seeds 1000 [--seed S] [--nodes K] [--workers N]
 *     deno task sim --range A-B        seeds A to B; 20,000 are run in pieces
 *     deno task sim --seed S --trace   all that happened in one run
 *     deno task sim --seeds N --first  ends with the first failure
 */
import { parseArgs } from "node:util";
import { Marks } from "./marks.ts";
import { type RunResult, simulate } from "./simulate.ts";

/** Runs from which on every mark must have been reached. */
export const FULL_SEEDS = 1_000;

/** Seeds that a worker is given at once. */
const BATCH_SEEDS = 20;

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

const { values } = parseArgs({
  args: Deno.args,
  options: {
    seeds: { type: "string" },
    seed: { type: "string" },
    range: { type: "string" },
    nodes: { type: "string" },
    workers: { type: "string" },
    trace: { type: "boolean" },
    first: { type: "boolean" },
  },
});

/** A positive whole number; anything else ends the run, or it would pass with no seed at all. */
function whole(flag: string, text: string | undefined): number {
  const number = Number(text);
  if (Number.isSafeInteger(number) && number > 0) return number;
  say(`Cannot read --${flag} ${text}: a whole number above 0 needed, as in --seeds 1000`);
  Deno.exit(2);
}

const nodes = values.nodes === undefined ? undefined : whole("nodes", values.nodes);

/** The command that does it again. */
function replay(seed: number): string {
  return `deno task sim --seed ${seed}${nodes === undefined ? "" : ` --nodes ${nodes}`}`;
}

function report({ seed, nodes: count, failure, trace }: RunResult): void {
  if (!failure) return;
  say(`seed ${seed} (${count} nodes) FAILED: ${failure.property}: ${failure.detail}`);
  for (const line of trace) say(line);
  if (failure.property === "no node throws") say(failure.stack);
  say(`  replay: ${replay(seed)}`);
}

function range(): [number, number] {
  if (values.range !== undefined) {
    const [a, b = a] = values.range.split("-");
    const [from, to] = [whole("range", a), whole("range", b)];
    if (from <= to) return [from, to];
    say(`Cannot run --range ${values.range}: it ends before it begins`);
    Deno.exit(2);
  }
  const from = whole("seed", values.seed ?? "1");
  const count = whole("seeds", values.seeds ?? (values.seed === undefined ? "100" : "1"));
  return [from, from + count - 1];
}

/** Runs a piece of the range here. */
function* runHere(from: number, to: number): Generator<RunResult> {
  for (let seed = from; seed <= to; seed++) {
    const result = simulate({ seed, nodes });
    yield result;
    if (values.first && result.failure) return;
  }
}

/** Runs the range on several threads; results come as they are done. */
async function runOnWorkers(
  [from, to]: readonly [number, number],
  threads: number,
  done: (results: readonly RunResult[]) => void,
): Promise<void> {
  let next = from;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(new URL("./thread.ts", import.meta.url), { type: "module" });
      const give = () => {
        if (next > to) {
          worker.terminate();
          return resolve();
        }
        const last = Math.min(to, next + BATCH_SEEDS - 1);
        worker.postMessage({ from: next, to: last, nodes });
        next = last + 1;
      };
      worker.onerror = (event) => reject(new Error(event.message));
      worker.onmessage = ({ data }: MessageEvent<RunResult[]>) => {
        done(data);
        give();
      };
      give();
    });
  await Promise.all(Array.from({ length: threads }, one));
}

async function main(): Promise<number> {
  const [from, to] = range();
  const startedAt = performance.now();
  if (values.trace) {
    const result = simulate({ seed: from, nodes, keepTrace: true });
    for (const line of result.trace) say(line);
    report({ ...result, trace: [] });
    return result.failure ? 1 : 0;
  }
  const marks = new Marks();
  let [passed, failed, steps, virtualMs] = [0, 0, 0, 0];
  const done = (results: Iterable<RunResult>) => {
    for (const result of results) {
      if (result.failure) failed++;
      else passed++;
      steps += result.steps;
      virtualMs += result.virtualMs;
      marks.add(result.marks);
      report(result);
    }
  };
  const count = to - from + 1;
  const threads = Math.min(Number(values.workers ?? 2), Math.ceil(count / BATCH_SEEDS));
  if (threads <= 1 || values.first) done(runHere(from, to));
  else await runOnWorkers([from, to], threads, done);
  say(marks.toString());
  const missing = count >= FULL_SEEDS ? marks.missing() : [];
  for (const name of missing) say(`never reached: ${name}`);
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  const hours = (virtualMs / 3_600_000).toFixed(1);
  say(`seeds ${from}-${to}: ${steps} steps, ${hours} h of virtual time in ${seconds} s`);
  say(`${passed} passed, ${failed + missing.length} failed`);
  return failed + missing.length > 0 ? 1 : 0;
}

Deno.exit(await main());

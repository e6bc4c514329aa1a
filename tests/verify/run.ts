/**
 * The long bars, each resumable by its range; all end with `N passed, N failed`.
 *
 *     deno task verify faults [--from N] [--to N]             cells of the matrix
 *     deno task verify group-faults [--from N] [--to N]       likewise, of an instance on two nodes
 *     deno task verify kills [--seed S] [--kills N]            kill -9 of a node, over and over
 *     deno task verify meta [--engine fake] [--kills N]        kill -9 of a declared model's runner
 *     deno task verify http [--seed S] [--requests N]         mutated requests
 *     deno task verify network-fuzz [--seed S] [--messages N] mutated messages between nodes
 *     deno task verify aborts [--seed S] [--requests N]        answers that are left at random
 *     deno task verify models [--seed S] [--files N]           mutated model files
 *     deno task verify prefill [--requests N]                 prompts that another node reads
 *     deno task verify mixes [--seed S] [--mixes N]            requests together, and each alone
 *     deno task verify schedules [--seed S] [--schedules N]    requests over several ranks
 *     deno task verify memory [--seed S] [--requests N]        what they leave, and too many at once
 *     deno task verify network [--from N] [--to N] [--rounds N]    stories of three nodes
 *     deno task verify partitions [--seed S] [--from N] [--to N]    2|1 and heal, with load
 *     deno task verify layouts [--from N] [--to N]            a model over several nodes, beside one
 *     deno task verify token-path                             tokens of another node's runner
 *     deno task verify soak [--minutes N] [--seed S]          three nodes under load
 *     deno task verify ruler [--rounds N]                      exo bench beside OpenAI's own client
 *     deno task verify perplexity [--record]                   a text, on our kernels and MLX's
 */
import { parseArgs } from "node:util";
import { fetchDefaultModel } from "../../cli/default_model.ts";
import { directories } from "../../core/directories.ts";
import { clearCache, ensureSetup, KV_DTYPES, memoryCounters } from "../../ffi/mod.ts";
import { abortRequests } from "./aborts.ts";
import { CELLS, runCell } from "./faults.ts";
import { META_RETRIES_DEFAULT } from "../../core/meta_instance.ts";
import type { NodeSample } from "../support/measured_node.ts";
import { addTinyModel, REAL_ENGINE } from "../support/test_node.ts";
import { type Finding, fuzzHttp, fuzzSlowly, FuzzTarget, growthOf } from "./http.ts";
import { killNode } from "./kills.ts";
import { verifyGroupFaults } from "./group_fault_bar.ts";
import { GROUP_CELLS } from "./group_faults.ts";
import { LAYOUTS, verifyLayouts } from "./group_layouts.ts";
import { keepRunning } from "./meta.ts";
import { fuzzModels } from "./model_files.ts";
import { fuzzNetwork, seldomSaidOn } from "./network/mod.ts";
import { compareRulers, RULER_LONG } from "./ruler.ts";
import { verifySchedules } from "./schedules.ts";
import { verifyMemory, verifyMixes } from "./serving.ts";
import { NETWORK_PARTS, verifyNetwork } from "./network.ts";
import { choosePrefill, comparePrefills, killPrefillRank, killPrefillRunner } from "./prefill.ts";
import { verifyProcesses } from "./prefill_processes.ts";
import { partitionAndHeal } from "./partitions.ts";
import { soak } from "./soak.ts";
import type { Tally } from "./tally.ts";
import { measureTokenPath } from "./token_path.ts";
import {
  PERPLEXITY_CHANGE_MAX,
  perplexityOf,
  perplexityRecording,
  predictOnOurs,
  recordPerplexity,
} from "./perplexity.ts";

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/** Prompts of a comparison with one node. */
const PREFILL_PROMPTS = 50;

/** Partitions of one run, and rounds of a comparison. */
const PARTITIONS = 20;
const RULER_ROUNDS = 7;

/** Set by the task's `--v8-flags=--expose-gc`. */
declare const gc: () => void;

/** Requests of one round of the fuzzer; a round is one line of the report. */
const ROUND_REQUESTS = 10_000;

/** Rounds from which on it can be told whether a node grows. */
const SAMPLES_MIN = 4;

/** Model files of one round. */
const ROUND_FILES = 500;

async function verifyFaults(from: number, to: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  let [passed, failed] = [0, 0];
  for (const [n, cell] of CELLS.entries()) {
    if (n < from || n > to) continue;
    const startedAt = performance.now();
    const { engine, fault, stage, inFlight } = cell;
    const name = `${n} ${engine}: ${fault} in ${stage}, requests: ${inFlight}`;
    try {
      const { descriptors, liveBytes } = await runCell(cell);
      passed++;
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      const held = `${descriptors.join(" to ")} descriptors, ${liveBytes.join(" to ")} bytes alive`;
      say(`${name}: ok (${seconds} s; ${held})`);
    } catch (cause) {
      failed++;
      say(`${name}: FAILED: ${String(cause)}`);
      say(`  replay: deno task verify faults --from ${n} --to ${n}`);
    }
  }
  return { passed, failed };
}

async function verifyModels(seed: number, files: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  let [passed, failed] = [0, 0];
  const samples: NodeSample[] = [];
  const tell = (finding: string) => {
    say(`  FAILED: ${finding}`);
    failed++;
  };
  for (let done = 0; done < files; done += ROUND_FILES, seed++) {
    const report = await fuzzModels(seed, Math.min(ROUND_FILES, files - done));
    const { refused, answered, findings } = report;
    clearCache();
    gc();
    const { activeBytes } = memoryCounters();
    const residentBytes = Deno.memoryUsage().rss;
    // What is alive is known exactly where it matters: weights and caches.
    samples.push({ liveBytes: activeBytes, residentBytes });
    say(
      `seed ${seed}: ${refused} refused, ${answered} answered; ${activeBytes} bytes of weights and ` +
        `caches left, ${mib(residentBytes)} MiB resident`,
    );
    findings.forEach(tell);
    if (activeBytes > 0) tell(`${activeBytes} bytes of weights or caches were kept`);
    passed += refused + answered;
  }
  for (const { request, found } of growthOf(samples)) tell(`${request}: ${found}`);
  return { passed, failed };
}

async function verifyKills(seed: number, kills: number): Promise<Tally> {
  let passed = -1; // The first start comes before the first kill.
  try {
    await killNode(seed, kills, (kill, instances) => {
      passed++;
      if (kill % 10 === 0) say(`seed ${seed}: ${kill} kills survived, ${instances} instances`);
    });
    return { passed, failed: 0 };
  } catch (cause) {
    say(`FAILED: ${String(cause)}`);
    return { passed: Math.max(0, passed), failed: 1 };
  }
}

async function verifyMeta(kills: number, engine: string): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const isFake = engine === "fake";
  const model = isFake ? "" : await defaultModel();
  let passed = 0;
  try {
    await keepRunning({
      kills,
      maxRetries: META_RETRIES_DEFAULT,
      ...(isFake ? {} : { runner: REAL_ENGINE }),
      addModel: async (node, dir) => {
        const card = await (isFake ? addTinyModel(node, `${dir}/tiny`) : node.addModel(model));
        return card.modelId;
      },
      onPassed: (what) => {
        passed++;
        say(what);
      },
    });
    return { passed, failed: 0 };
  } catch (cause) {
    say(`FAILED: ${String(cause)}`);
    return { passed, failed: 1 };
  }
}

/** The path of the default model, which is fetched where it is missing. */
async function defaultModel(): Promise<string> {
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  return env["EXO_TEST_SMOLLM2_GGUF"] ?? await fetchDefaultModel(cache, say);
}

/** Most that two rulers may differ by. */
const RULER_SHARE_MAX = 0.03;

async function verifyRuler(rounds: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const { ours, theirs, difference, counts } = await compareRulers({ ...RULER_LONG, rounds });
  for (const [name, { decodeTokensPerSecond, ttftMs }] of Object.entries({ ours, theirs })) {
    say(`${name}: decode ${decodeTokensPerSecond.toFixed(1)} tok/s, TTFT ${ttftMs.toFixed(1)} ms`);
  }
  say(
    `tokens of prompt and answer: ${Object.values(counts.ours)}, ${Object.values(counts.theirs)}`,
  );
  say(`they differ by ${(difference * 100).toFixed(2)} %`);
  return difference <= RULER_SHARE_MAX ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 };
}

async function verifyAborts(seed: number, requests: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  try {
    const { activeBytes, liveBytes, descriptors } = await abortRequests(seed, requests);
    say(`MLX's active memory: ${activeBytes.join(" to ")} bytes`);
    say(`alive on the node: ${liveBytes.join(" to ")} bytes`);
    say(`open descriptors: ${descriptors.join(" to ")}`);
    return { passed: requests, failed: 0 };
  } catch (cause) {
    say(`FAILED: seed ${seed}: ${String(cause)}`);
    return { passed: 0, failed: 1 };
  }
}

/** One seed a round, so that a round can be replayed alone; the node is the same for all. */
async function verifyHttp(seed: number, requests: number): Promise<Tally> {
  await using target = await FuzzTarget.start();
  let [passed, failed] = [0, 0];
  const tell = (findings: readonly Finding[]) => {
    failed += findings.length;
    for (const { request, found } of findings.slice(0, 5)) {
      say(`  FAILED: ${request}\n    ${found}`);
    }
  };
  const samples: NodeSample[] = [];
  for (let done = 0; done < requests; done += ROUND_REQUESTS, seed++) {
    const count = Math.min(ROUND_REQUESTS, requests - done);
    const { findings, statuses } = await fuzzHttp(target, seed, count);
    const sample = await target.node.sample();
    samples.push(sample);
    const reached = [...statuses].sort(([a], [b]) => a - b).map(([s, n]) => `${s}: ${n}`);
    say(`seed ${seed}: ${count} requests, ${reached.join(", ")}; ${heldIn(sample)}`);
    passed += count - findings.length;
    tell(findings);
  }
  tell(await fuzzSlowly(target));
  // While a node still warms up it grows, and nothing could be told from that.
  if (samples.length < SAMPLES_MIN) say(`memory not compared: fewer than ${SAMPLES_MIN} rounds`);
  else tell(growthOf(samples));
  return { passed, failed };
}

/** One seed a round. */
async function verifyNetworkFuzz(seed: number, messages: number): Promise<Tally> {
  let [passed, failed] = [0, 0];
  for (let done = 0; done < messages; done += ROUND_REQUESTS, seed++) {
    const count = Math.min(ROUND_REQUESTS, messages - done);
    const parts = await fuzzNetwork(seed, count);
    for (const { name, said, saidOn, wellFormed, leftOut, findings } of parts) {
      const apart = leftOut > 0 ? `; ${leftOut} further ones may be heeded, and were left out` : "";
      say(`seed ${seed}, ${name}: ${said} messages, ${wellFormed} of them well-formed${apart}`);
      say(`  ${[...saidOn].map(([where, n]) => `${where}: ${n}`).join(", ")}`);
      for (const finding of findings) say(`  FAILED: ${finding}`);
      passed += said - findings.length;
      failed += findings.length;
    }
    for (const where of await seldomSaidOn(parts, count)) {
      say(`  FAILED: seed ${seed}: too little was said on ${where}`);
      failed++;
    }
  }
  return { passed, failed };
}

async function verifyPerplexity(records: boolean): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const model = await defaultModel();
  const recorded = records ? await recordPerplexity(model, say) : perplexityRecording();
  say(`MLX ${recorded.mlx}'s own kernels: ${recorded.perplexity} over ${recorded.tokens} tokens`);
  let [passed, failed] = [0, 0];
  for (const kvDtype of KV_DTYPES) {
    const perplexity = perplexityOf(await predictOnOurs(model, { kvDtype }));
    const change = perplexity / recorded.perplexity - 1;
    const percent = (change * 100).toFixed(4);
    const holds = Math.abs(change) < PERPLEXITY_CHANGE_MAX[kvDtype];
    say(`our kernels, ${kvDtype} cache: ${perplexity}, ${percent} %${holds ? "" : ": FAILED"}`);
    if (holds) passed++;
    else failed++;
  }
  return { passed, failed };
}

/** What a real model is asked while its master dies; three nodes share this machine's cores. */
const QUESTION = { content: "Tell a long story about a ship and its crew.", maxTokens: 300 };

async function verifyThree(from: number, to: number, rounds: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const real = { path: await defaultModel(), ...QUESTION };
  return await verifyNetwork({ from, to, rounds, real }, say);
}

async function verifyGroupLayouts(from: number, to: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  return await verifyLayouts({ from, to, smollm2: await defaultModel() }, say);
}

async function verifyPartitions(seed: number, from: number, to: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  let passed = 0;
  const tell = (line: string) => {
    passed++;
    say(line);
  };
  try {
    await partitionAndHeal({ seed, from, to, say: tell });
    return { passed, failed: 0 };
  } catch (cause) {
    say(`FAILED: seed ${seed}: ${String(cause)}`);
    return { passed, failed: 1 };
  }
}

async function verifySoak(minutes: number, seed: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  try {
    await soak({ minutes, seed, say });
    return { passed: 1, failed: 0 };
  } catch (cause) {
    say(`FAILED: ${String(cause)}`);
    return { passed: 0, failed: 1 };
  }
}

async function verifyTokenPath(): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  try {
    await measureTokenPath(say);
    return { passed: 1, failed: 0 };
  } catch (cause) {
    say(`FAILED: ${String(cause)}`);
    return { passed: 0, failed: 1 };
  }
}

/** Of nodes of one process, and of one process each. */
async function verifyPrefill(prompts: number): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const modelPath = await defaultModel();
  say(`The model is ${modelPath}`);
  const shape = { modelPath, words: 1_250, prompts, answerTokens: 16 };
  try {
    const { passed, failed } = await verifyProcesses(shape, say);
    const several = await comparePrefills(shape, say, { prefill: 2, decode: 2 });
    await choosePrefill(shape);
    await killPrefillRunner(shape);
    await killPrefillRank(shape);
    return { passed: passed + several.passed + 3, failed: failed + several.failed };
  } catch (cause) {
    say(`FAILED: ${String(cause)}`);
    return { passed: 0, failed: 1 };
  }
}

const mib = (bytes: number) => (bytes / 1_048_576).toFixed(1);
const heldIn = (sample: NodeSample) =>
  `${mib(sample.liveBytes)} MiB alive, ${mib(sample.residentBytes)} resident`;

const { positionals: [bar], values } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    from: { type: "string", default: "0" },
    to: { type: "string" },
    seed: { type: "string", default: "1" },
    mixes: { type: "string", default: "200" },
    schedules: { type: "string", default: "1000" },
    files: { type: "string", default: "5000" },
    kills: { type: "string" },
    engine: { type: "string", default: "mlx" },
    requests: { type: "string" },
    rounds: { type: "string" },
    minutes: { type: "string", default: "60" },
    messages: { type: "string", default: "100000" },
    record: { type: "boolean", default: false },
  },
});
const run: Record<string, () => Promise<Tally>> = {
  faults: () => verifyFaults(Number(values.from), Number(values.to ?? CELLS.length - 1)),
  "group-faults": async () => {
    await ensureSetup({ onProgress: say });
    const to = Number(values.to ?? GROUP_CELLS.length - 1);
    return await verifyGroupFaults({ from: Number(values.from), to }, say);
  },
  network: () =>
    verifyThree(
      Number(values.from),
      Number(values.to ?? Object.keys(NETWORK_PARTS).length - 1),
      Number(values.rounds ?? 1),
    ),
  layouts: () => verifyGroupLayouts(Number(values.from), Number(values.to ?? LAYOUTS.length - 1)),
  partitions: () =>
    verifyPartitions(Number(values.seed), Number(values.from), Number(values.to ?? PARTITIONS - 1)),
  soak: () => verifySoak(Number(values.minutes), Number(values.seed)),
  kills: () => verifyKills(Number(values.seed), Number(values.kills ?? 50)),
  meta: () => verifyMeta(Number(values.kills ?? 10), values.engine),
  aborts: () => verifyAborts(Number(values.seed), Number(values.requests ?? 500)),
  schedules: () => verifySchedules(Number(values.seed), Number(values.schedules), say),
  mixes: () => verifyMixes(Number(values.seed), Number(values.mixes), say),
  memory: () => verifyMemory(Number(values.seed), Number(values.requests ?? 1_000), say),
  models: () => verifyModels(Number(values.seed), Number(values.files)),
  perplexity: () => verifyPerplexity(values.record),
  ruler: () => verifyRuler(Number(values.rounds ?? RULER_ROUNDS)),
  "token-path": verifyTokenPath,
  "network-fuzz": () => verifyNetworkFuzz(Number(values.seed), Number(values.messages)),
  prefill: () => verifyPrefill(Number(values.requests ?? PREFILL_PROMPTS)),
  http: () => verifyHttp(Number(values.seed), Number(values.requests ?? 200_000)),
};
const wanted = run[bar ?? ""];
if (!wanted) {
  say(`Usage: deno task verify ${Object.keys(run).join("|")}; see tests/verify/run.ts`);
  Deno.exit(2);
}
const { passed, failed } = await wanted();
say(`${passed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);

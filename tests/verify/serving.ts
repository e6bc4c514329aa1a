/** The bars of the engine that serves many: mixes of requests, and memory. */
import { fetchDefaultModel } from "../../cli/default_model.ts";
import { directories } from "../../core/directories.ts";
import { MIB } from "../../core/units.ts";
import { ensureSetup } from "../../ffi/mod.ts";
import { MemoryGroup } from "../support/memory_group.ts";
import { TempDir } from "../support/temp_dir.ts";
import { memoryOfRequests, overAsk } from "./memory.ts";
import { runMixes } from "./mixes.ts";
import type { Say, Tally } from "./tally.ts";

/** Mixes of one round, which share an engine. */
const ROUND_MIXES = 10;

/** One seed a round, so that a round can be replayed alone. */
export async function verifyMixes(seed: number, mixes: number, say: Say): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const model = await defaultModel(say);
  let [passed, failed, preemptions] = [0, 0, 0];
  for (let done = 0; done < mixes; done += ROUND_MIXES, seed++) {
    const count = Math.min(ROUND_MIXES, mixes - done);
    const report = runMixes(seed, count, model);
    preemptions += report.preemptions;
    say(
      `seed ${seed}, ${report.setup}: ${report.compared} answers of ${count} mixes, of which ` +
        `${report.cancelled} cancelled; ${report.cachedTokens} tokens from the cache, ` +
        `${report.preemptions} preemptions`,
    );
    for (const finding of report.findings) say(`  FAILED: ${finding}`);
    if (report.findings.length > 0) {
      say(`  replay: deno task verify mixes --seed ${seed} --mixes ${count}`);
    }
    failed += report.findings.length;
    passed += report.compared - Math.min(report.compared, report.findings.length);
  }
  if (preemptions === 0) say("nobody was preempted: more mixes needed to see that");
  return { passed, failed };
}

/** A limit that is well below what is asked for. */
const LIMIT_BYTES = 640 * MIB;
const OVER_ASKED = { requests: 48, promptTokensMax: 2_000 };

/** Times the limit that the requests would take, at the least, for the run to tell anything. */
const ASKED_SHARE_MIN = 2;

/** What requests leave behind; then more of them than there is memory for. */
export async function verifyMemory(seed: number, requests: number, say: Say): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const parts = [
    () => Promise.resolve(leaveMemory(seed, requests, say)),
    () => exceedMemory(seed, say),
  ];
  let [passed, failed] = [0, 0];
  for (const part of parts) {
    try {
      if (await part()) passed++;
    } catch (cause) {
      failed++;
      say(`FAILED: seed ${seed}: ${String(cause)}`);
    }
  }
  return { passed, failed };
}

function leaveMemory(seed: number, requests: number, say: Say): boolean {
  const { began, most, idle, ended, kvBudget, preemptions } = memoryOfRequests(seed, requests);
  say(
    `${requests} requests: ${began} bytes active, ${most} at most (${kvBudget} for keys and ` +
      `values), ${idle} when idle, ${ended} without what is kept; ${preemptions} preemptions`,
  );
  return true;
}

/** False where it cannot be tried. */
async function exceedMemory(seed: number, say: Say): Promise<boolean> {
  await using group = MemoryGroup.make(LIMIT_BYTES);
  if (!group) {
    say("SKIPPED: this system lets us make no control group with a memory limit (as root?)");
    return false;
  }
  await using dir = await TempDir.make();
  const modelPath = await defaultModel(say);
  const report = await overAsk({ modelPath, group, dataDir: dir.path, seed, ...OVER_ASKED });
  const { limitBytes, peakBytes, askedBytes, answers, reasons } = report;
  say(
    `under a limit of ${mib(limitBytes)}, asked for keys and values of ${mib(askedBytes)}: ` +
      `${JSON.stringify(answers)}, ${mib(peakBytes)} held at most, nothing killed`,
  );
  for (const reason of reasons) say(`  refused: ${reason}`);
  if (askedBytes < ASKED_SHARE_MIN * limitBytes) throw new Error("too little was asked");
  return true;
}

const mib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;

async function defaultModel(say: Say): Promise<string> {
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  return env["EXO_TEST_SMOLLM2_GGUF"] ?? await fetchDefaultModel(cache, say);
}

/**
 * Random schedules of requests, cancels, broken steps and ends of the engine over the ranks of a
 * pipeline: whatever happens, no rank waits for ever, all hold the same, and each request that is
 * answered is answered as by one rank alone.
 */
import assert from "node:assert/strict";
import { TaskId } from "../../core/ids.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { openCheckpoint } from "../../engines/mlx/checkpoint.ts";
import { TextEngine } from "../../engines/text_engine.ts";
import { ChatTemplate } from "../../engines/text/chat_template.ts";
import { TextTokenizer } from "../../engines/text/tokenizer.ts";
import { ensureSetup } from "../../ffi/mod.ts";
import { goldenPath } from "../engines/golden.ts";
import { ArithmeticDecoder } from "../support/arithmetic_decoder.ts";
import { ArithmeticGroup } from "../support/arithmetic_group.ts";
import { MixedRequests } from "../support/mixed_requests.ts";
import { Random } from "../support/random.ts";
import { answerAlone, Outcomes } from "../support/text_engine.ts";
import type { Say, Tally } from "./tally.ts";

const LAYERS = 3;
const CONTEXT_TOKENS = 256;
const REQUESTS_MAX = 7;
const ARRIVAL_STEPS = 12;
const CANCEL_STEPS = 15;

/** Steps after which an engine that is to be ended is, and within which the others must be done. */
const END_STEPS = 25;
const STEPS_MAX = 20_000;

const SHARES = { cancelled: 0.25, ended: 0.2, faulty: 0.5, failing: 0.3 };

/** Blocks that a whole context needs, so that one request always fits. */
const CONTEXT_BLOCKS = CONTEXT_TOKENS / 32;

const SHAPE = { systemWords: 8, wordsMax: 10, answerTokensMax: 160, longAnswerShare: 0.7 };

/** Ranks of the pipelines, by turns. */
const SIZES = [2, 3, 2];

/** Schedules after which a line tells how it goes. */
const TOLD_EACH = 100;

/** One seed a schedule, so that it can be replayed alone. */
export async function verifySchedules(seed: number, count: number, say: Say): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const schedules = new Schedules();
  let failed = 0;
  for (let done = 0; done < count; done++, seed++) {
    try {
      schedules.run(seed);
    } catch (error) {
      failed++;
      say(`FAILED: ${String(error)}`);
      say(`  replay: deno task verify schedules --seed ${seed} --schedules 1`);
    }
    if ((done + 1) % TOLD_EACH === 0) say(`${done + 1}: ${JSON.stringify(schedules.report)}`);
  }
  schedules.close();
  return { passed: count - failed, failed };
}

/** What many schedules reached. */
export interface ScheduleReport {
  compared: number;
  cancelled: number;
  ended: number;
  brokenSteps: number;
  preemptions: number;
  /** Most steps that were under way at a time. */
  atOnce: number;
}

/** Runs schedules, one for each seed. */
export class Schedules {
  readonly report: ScheduleReport = {
    ...{ compared: 0, cancelled: 0, ended: 0, brokenSteps: 0, preemptions: 0, atOnce: 0 },
  };
  readonly #tokenizer: TextTokenizer;
  readonly #vocabSize: number;
  readonly #alone: TextEngine;

  constructor() {
    const { tokenizer, config } = openCheckpoint(goldenPath("models/tiny-tied"));
    this.#tokenizer = new TextTokenizer(tokenizer);
    this.#vocabSize = Number(config["vocab_size"]);
    const decoder = new ArithmeticDecoder({ layers: LAYERS, vocabSize: this.#vocabSize });
    this.#alone = this.#engine(decoder, { runningMax: 1, prefillChunkTokens: 512 });
  }

  /** @throws when anything is not as it should be. */
  run(seed: number): void {
    const random = new Random(seed);
    using group = new ArithmeticGroup(SIZES[seed % SIZES.length] ?? 2, {
      ...{ layers: LAYERS, vocabSize: this.#vocabSize },
      mayPass: () => random.next() < 0.4,
    });
    using empty = group.decoder.makeCache();
    const blocks = CONTEXT_BLOCKS + random.below(4);
    const kvBudgetBytes = blocks * empty.bytesFor(group.decoder.blockPositions);
    const engine = this.#engine(this.#watched(group, random), {
      ...{ runningMax: 1 + random.below(REQUESTS_MAX), prefillChunkTokens: 8 << random.below(4) },
      kvBudgetBytes,
      ...(random.next() < 0.3 ? { prefixCacheBytes: 0 } : {}),
    });
    const endsAt = random.next() < SHARES.ended ? random.below(END_STEPS) : Infinity;
    const requests = new MixedRequests(random, SHAPE);
    const asked = Array.from({ length: 1 + random.below(REQUESTS_MAX) }, (_, i) => ({
      taskId: TaskId.parse(`request-${i}`),
      payload: requests.next(),
      arrivesAt: random.below(ARRIVAL_STEPS),
      isCancelledAt: random.next() < SHARES.cancelled ? random.below(CANCEL_STEPS) : Infinity,
    }));
    const outcomes = new Outcomes();
    for (let step = 0; step < endsAt && (step < ARRIVAL_STEPS || engine.hasWork()); step++) {
      assert(step < STEPS_MAX, "requests come to their end");
      for (const { taskId, payload, arrivesAt, isCancelledAt } of asked) {
        if (step === arrivesAt) {
          engine.submit({ taskId, payload });
          outcomes.begin(taskId);
        }
        if (step === arrivesAt + isCancelledAt) engine.cancel(taskId);
      }
      for (const part of engine.step()) outcomes.take(...part);
    }
    this.report.preemptions += engine.stats().preemptions;
    if (endsAt < Infinity) this.report.ended++;
    else {
      assert.equal(outcomes.openCount, 0, "each request has ended");
      engine.clearPrefixCache();
      assert.equal(group.settle(), 0, "nothing is held by any rank");
    }
    for (const { taskId, payload } of asked) this.#compare(outcomes, { taskId, payload });
    engine.close();
    assert.equal(group.settle(), 0, "nothing is held by any rank");
    for (const follower of group.followers) assert.equal(follower.held, 0);
  }

  #compare(outcomes: Outcomes, { taskId, payload }: Asked): void {
    const found = outcomes.of(taskId);
    if (!found) return; // The engine was ended before it was.
    const { tokens, finish } = answerAlone(this.#alone, payload);
    this.report.compared++;
    if (!found.finish) this.report.cancelled++;
    const expected = found.finish ? tokens : tokens.slice(0, found.tokens.length);
    assert.deepEqual(found.tokens, expected, taskId);
    if (found.finish) assert.equal(found.finish.finishReason, finish?.finishReason);
  }

  /** The group's decoder, whose ranks may break a step of several sequences off. */
  #watched({ decoder, parts }: ArithmeticGroup, random: Random): Decoder {
    if (random.next() < SHARES.faulty) {
      const faulty = random.pick(parts);
      faulty.fault = (inputs) => {
        if (inputs.length < 2 || random.next() >= SHARES.failing) return undefined;
        this.report.brokenSteps++;
        return "out of luck";
      };
    }
    let underWay = 0;
    const launch: Decoder["launch"] = (inputs) => {
      const step = decoder.launch(inputs);
      this.report.atOnce = Math.max(this.report.atOnce, ++underWay);
      const collect = () => {
        underWay--;
        return step.collect();
      };
      return { wait: (ms) => step.wait(ms), collect, isDone: false };
    };
    return new Proxy(decoder, {
      get: (target, name) => {
        if (name === "launch") return launch;
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  #engine(decoder: Decoder, options: Partial<ConstructorParameters<typeof TextEngine>[0]>) {
    let ms = 0;
    return new TextEngine({
      ...{ vocabSize: this.#vocabSize, decoder, tokenizer: this.#tokenizer },
      weights: NO_WEIGHTS,
      template: new ChatTemplate(this.#tokenizer.chatTemplate ?? ""),
      ...{ eosIds: new Set(), contextTokens: CONTEXT_TOKENS, samplingDefaults: [] },
      ...{ runningMax: 1, prefillChunkTokens: 512, kvBudgetBytes: 2 ** 30 },
      now: () => ms++,
      ...options,
    });
  }

  close(): void {
    this.#alone.close();
  }
}

interface Asked {
  readonly taskId: TaskId;
  readonly payload: TextGenerationPayload;
}

/** Arithmetic needs none. */
const NO_WEIGHTS = { [Symbol.dispose]: () => {} };

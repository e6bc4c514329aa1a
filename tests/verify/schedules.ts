/**
 * Random schedules of requests, cancels, aborts, broken steps and ends of the engine over the ranks
 * of a pipeline: whatever happens, no rank waits for ever, all hold the same, and each request ends
 * once: answered as by one rank alone, or cancelled because that was asked. An engine that is closed
 * tells its requests nothing more: those that are open have been told a beginning of that answer, and
 * the node of the runner ends them (tests/node/worker_test.ts).
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

/** Shares of requests that are cancelled, schedules that end early or have a fault, its steps. */
const SHARES = { cancelled: 0.25, aborted: 0.1, closed: 0.1, faulty: 0.5, failing: 0.3 };

/** Blocks that a whole context needs, so that one request always fits. */
const CONTEXT_BLOCKS = CONTEXT_TOKENS / 32;

const SHAPE = { systemWords: 8, wordsMax: 10, answerTokensMax: 160, longAnswerShare: 0.7 };

/** Each seed runs over two ranks; one of so many over three as well. */
const THREE_RANKS_EACH = 3;

/** Schedules after which a line tells how it goes. */
const TOLD_EACH = 100;

/** One seed a schedule, so that it can be replayed alone. */
export async function verifySchedules(seed: number, count: number, say: Say): Promise<Tally> {
  await ensureSetup({ onProgress: say });
  const schedules = new Schedules();
  let failed = 0;
  for (let done = 0; done < count; done++, seed++) {
    for (const ranks of ranksOf(seed)) {
      try {
        schedules.run(seed, ranks);
      } catch (error) {
        failed++;
        say(`FAILED over ${ranks} ranks: ${String(error)}`);
        say(`  replay: deno task verify schedules --seed ${seed} --schedules 1`);
      }
    }
    if ((done + 1) % TOLD_EACH === 0) say(`${done + 1}: ${JSON.stringify(schedules.report)}`);
  }
  schedules.close();
  const { overTwo, overThree } = schedules.report;
  say(`schedules: ${overTwo} over 2 ranks, ${overThree} over 3`);
  return { passed: overTwo + overThree - failed, failed };
}

/** The sizes of the pipelines over which a seed's schedule runs. */
export function ranksOf(seed: number): readonly (2 | 3)[] {
  return seed % THREE_RANKS_EACH === 0 ? [2, 3] : [2];
}

/** What many schedules reached. */
export interface ScheduleReport {
  /** Schedules over so many ranks. */
  overTwo: number;
  overThree: number;
  compared: number;
  cancelled: number;
  /** Requests that were cancelled all at once, and those that were open when the engine ended. */
  aborted: number;
  cutOff: number;
  brokenSteps: number;
  preemptions: number;
  /** Most steps that were under way at a time. */
  atOnce: number;
}

/** Runs schedules, one for each seed. */
export class Schedules {
  readonly report: ScheduleReport = {
    ...{ overTwo: 0, overThree: 0, compared: 0, cancelled: 0, aborted: 0, cutOff: 0 },
    ...{ brokenSteps: 0, preemptions: 0, atOnce: 0 },
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
  run(seed: number, ranks: 2 | 3): void {
    this.report[ranks === 2 ? "overTwo" : "overThree"]++;
    const random = new Random(seed);
    using group = new ArithmeticGroup(ranks, {
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
    const ending = endingOf(random);
    const requests = new MixedRequests(random, SHAPE);
    const asked = Array.from({ length: 1 + random.below(REQUESTS_MAX) }, (_, i) => ({
      taskId: TaskId.parse(`request-${i}`),
      payload: requests.next(),
      arrivesAt: random.below(ARRIVAL_STEPS),
      isCancelledAt: random.next() < SHARES.cancelled ? random.below(CANCEL_STEPS) : Infinity,
    }));
    const played = new PlayedRequests(engine);
    for (let step = 0; step < ending.at && (step < ARRIVAL_STEPS || engine.hasWork()); step++) {
      assert(step < STEPS_MAX, "requests come to their end");
      for (const { taskId, payload, arrivesAt, isCancelledAt } of asked) {
        if (step === arrivesAt) played.submit({ taskId, payload });
        if (step === arrivesAt + isCancelledAt) played.cancel(taskId);
      }
      played.step();
    }
    if (ending.isAbort) this.report.aborted += played.abort();
    this.report.preemptions += engine.stats().preemptions;
    if (ending.isClose) this.report.cutOff += played.outcomes.openCount;
    else {
      assert.equal(played.outcomes.openCount, 0, "each request has ended");
      engine.clearPrefixCache();
      assert.equal(group.settle(), 0, "nothing is held by any rank");
    }
    for (const request of asked) {
      if (request.arrivesAt < ending.at) this.#compare(played, request);
    }
    engine.close();
    assert.equal(group.settle(), 0, "nothing is held by any rank");
    for (const follower of group.followers) assert.equal(follower.held, 0);
  }

  /** What a request was told is what one rank says, to its end unless it was stopped before. */
  #compare({ outcomes, cancelled }: PlayedRequests, { taskId, payload }: Asked): void {
    const ended = outcomes.of(taskId);
    const found = ended ?? outcomes.openOf(taskId);
    assert(found, `${taskId}: is known`);
    const { tokens, finish } = answerAlone(this.#alone, payload);
    this.report.compared++;
    if (ended && !found.finish) {
      this.report.cancelled++;
      assert(cancelled.has(taskId), `${taskId}: ends as cancelled, which nobody asked`);
    }
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

/** When a schedule ends before its requests do, and how: all are cancelled, or the engine closed. */
function endingOf(random: Random): { at: number; isAbort: boolean; isClose: boolean } {
  const chance = random.next();
  const isClose = chance < SHARES.closed;
  const isAbort = !isClose && chance < SHARES.closed + SHARES.aborted;
  return { at: isClose || isAbort ? random.below(END_STEPS) : Infinity, isAbort, isClose };
}

/** An engine with what it was asked, and what came of it. */
class PlayedRequests {
  readonly outcomes = new Outcomes();
  /** All that were to be cancelled, whether they were over by then or not. */
  readonly cancelled = new Set<TaskId>();
  readonly #engine: TextEngine;

  constructor(engine: TextEngine) {
    this.#engine = engine;
  }

  submit(request: Asked): void {
    this.#engine.submit(request);
    this.outcomes.begin(request.taskId);
  }

  cancel(taskId: TaskId): void {
    this.#engine.cancel(taskId);
    this.cancelled.add(taskId);
  }

  step(): void {
    for (const part of this.#engine.step()) this.outcomes.take(...part);
    for (const taskId of this.cancelled) {
      assert(this.outcomes.of(taskId), `${taskId}: is over within one step of its cancel`);
    }
  }

  /** Cancels all that are open, and returns how many those were. */
  abort(): number {
    const open = this.outcomes.openIds;
    for (const taskId of open) this.cancel(taskId);
    this.step();
    return open.length;
  }
}

interface Asked {
  readonly taskId: TaskId;
  readonly payload: TextGenerationPayload;
}

/** Arithmetic needs none. */
const NO_WEIGHTS = { [Symbol.dispose]: () => {} };

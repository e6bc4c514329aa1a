/** Random mixes of requests on one engine, each of which must be answered as if it were alone. */
import assert from "node:assert/strict";
import { TaskId } from "../../core/ids.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { TextEngine } from "../../engines/text_engine.ts";
import { clearCache, liveArrays, memoryCounters } from "../../ffi/mod.ts";
import { goldenPath } from "../engines/golden.ts";
import { MixedRequests, type RequestShape } from "../support/mixed_requests.ts";
import { Random } from "../support/random.ts";
import {
  answerAlone,
  type Outcome,
  Outcomes,
  testEngine,
  type TestEngineOptions,
  textOf,
} from "../support/text_engine.ts";

/** Requests of a mix. */
const MIX_REQUESTS = 16;

/** Of them, those that the mix before had too, and those that go on from one of it. */
const REPEATED = 2;
const FOLLOW_UPS = 2;

/** Of an answer that is gone on from, so that what comes of it fits every context. */
const FOLLOWED_CHARS = 60;

/** Steps within which the requests of a mix arrive, and within which those left are cancelled. */
const ARRIVAL_STEPS = 30;
const CANCEL_STEPS = 40;
const CANCELLED_SHARE = 0.2;

/** On what a mix is run. */
interface Setup extends Omit<TestEngineOptions, "modelPath"> {
  readonly name: string;
  readonly model: "tiny-tied" | "tiny-window" | "tiny-gguf.gguf" | "SmolLM2";
  readonly longAnswerShare: number;
}

/** Of the engine that has each request to itself: nothing is cut or short there. */
const ALONE = { contextTokens: 384, prefillChunkTokens: 512, maxConcurrentRequests: 1 };

const USUAL = {
  model: "tiny-tied",
  config: { contextTokens: ALONE.contextTokens, maxConcurrentRequests: MIX_REQUESTS },
  longAnswerShare: 0.3,
} as const;

/** Hardly more than one context, and answers that outgrow what their admission allowed for. */
const SHORT_OF_MEMORY = { kvTokens: 208, longAnswerShare: 0.9 };

const SETUPS: readonly Setup[] = [
  { ...USUAL, name: "room for all" },
  { ...USUAL, name: "short of memory", ...SHORT_OF_MEMORY },
  {
    ...USUAL,
    name: "few places, small chunks",
    model: "tiny-gguf.gguf",
    config: { ...USUAL.config, maxConcurrentRequests: 3, prefillChunkTokens: 16 },
  },
  {
    ...{ ...USUAL, name: "8 bits, short of memory", ...SHORT_OF_MEMORY },
    config: { ...USUAL.config, kvBits: 8, prefillChunkTokens: 100 },
  },
  {
    ...{ ...USUAL, name: "a sliding window", model: "tiny-window" },
    config: { ...USUAL.config, prefillChunkTokens: 16 },
  },
  {
    ...{ ...USUAL, name: "SmolLM2, short of memory", model: "SmolLM2", ...SHORT_OF_MEMORY },
    config: { ...USUAL.config, prefillChunkTokens: 128 },
  },
];

/** A word of the tiny models has some six tokens, one of SmolLM2's has one. */
function shapeOf({ model, longAnswerShare }: Setup): RequestShape {
  return model === "SmolLM2"
    ? { systemWords: 60, wordsMax: 60, answerTokensMax: 240, longAnswerShare }
    : { systemWords: 8, wordsMax: 10, answerTokensMax: 240, longAnswerShare };
}

/** What some mixes on one engine were like, and what they reached. */
export interface MixReport {
  readonly setup: string;
  /** Answers that were compared; those cancelled as far as they came. */
  readonly compared: number;
  readonly cancelled: number;
  readonly cachedTokens: number;
  readonly preemptions: number;
  readonly findings: readonly string[];
}

/**
 * Runs mixes on one engine, of the setup that the seed chooses, and compares each answer with that
 * of an engine of its own. What remains of memory is compared too.
 */
export function runMixes(
  seed: number,
  mixes: number,
  smolLm2: string | undefined,
): MixReport {
  const usable = SETUPS.filter(({ model }) => model !== "SmolLM2" || smolLm2 !== undefined);
  const setup = usable[seed % usable.length];
  assert(setup);
  const { model, config } = setup;
  const modelPath = model === "SmolLM2" ? smolLm2 ?? "" : goldenPath(`models/${model}`);
  const bits = config.kvBits === undefined ? {} : { kvBits: config.kvBits };
  const rounds = new MixRounds(new Random(seed), {
    engine: testEngine({ ...setup, modelPath }),
    alone: testEngine({ modelPath, config: { ...ALONE, ...bits } }),
    shape: shapeOf(setup),
  });
  try {
    for (let mix = 0; mix < mixes; mix++) rounds.run(mix);
    return { setup: setup.name, ...rounds.report() };
  } finally {
    rounds.close();
  }
}

interface Under {
  readonly engine: TextEngine;
  readonly alone: TextEngine;
  readonly shape: RequestShape;
}

/** A request of a mix. */
interface Asked {
  readonly taskId: TaskId;
  readonly payload: TextGenerationPayload;
  readonly arrivalStep: number;
  /** Steps after its arrival before which it is cancelled. */
  readonly cancelSteps: number | undefined;
}

class MixRounds {
  readonly #random: Random;
  readonly #under: Under;
  readonly #requests: MixedRequests;
  readonly #alone = new Map<string, Outcome>();
  readonly #findings: string[] = [];
  /** MLX's bytes and arrays once both engines have what they keep. */
  #heldAtFirst: readonly [bytes: number, arrays: number] | undefined;
  #before: readonly TextGenerationPayload[] = [];
  #compared = 0;
  #cancelled = 0;
  #cachedTokens = 0;

  constructor(random: Random, under: Under) {
    this.#random = random;
    this.#under = under;
    this.#requests = new MixedRequests(random, under.shape);
    under.engine.warmup();
    under.alone.warmup();
  }

  run(mix: number): void {
    const asked = this.#mix(mix);
    this.#heldAtFirst ??= this.#held();
    const outcomes = this.#play(asked);
    for (const { taskId, payload } of asked) {
      this.#compare(taskId, outcomes.of(taskId), this.#answerAlone(payload));
    }
    this.#before = asked.map(({ payload }) => payload);
    this.#under.engine.clearPrefixCache();
    const [bytes, arrays] = this.#held();
    const [bytesAtFirst = 0, arraysAtFirst = 0] = this.#heldAtFirst;
    if (bytes === bytesAtFirst && arrays === arraysAtFirst) return;
    const grown = `${bytesAtFirst} to ${bytes} bytes, ${arraysAtFirst} to ${arrays} arrays`;
    this.#findings.push(`mix ${mix}: memory grew from ${grown}`);
  }

  #held(): readonly [number, number] {
    clearCache();
    return [memoryCounters().activeBytes, liveArrays()];
  }

  #mix(mix: number): Asked[] {
    const known = this.#before;
    const payloads = Array.from({ length: MIX_REQUESTS }, (_, i) => {
      const earlier = known.length > 0 ? this.#random.pick(known) : undefined;
      if (!earlier || i >= REPEATED + FOLLOW_UPS) return this.#requests.next();
      if (i < REPEATED) return earlier;
      const text = textOf(this.#answerAlone(earlier)).slice(0, FOLLOWED_CHARS);
      return this.#requests.next({ payload: withoutHistory(earlier), text });
    });
    return payloads.map((payload, i) => ({
      taskId: TaskId.parse(`mix-${mix}-${i}`),
      payload,
      arrivalStep: this.#random.below(ARRIVAL_STEPS),
      cancelSteps: this.#random.next() < CANCELLED_SHARE
        ? this.#random.below(CANCEL_STEPS)
        : undefined,
    }));
  }

  /** Steps until all have come and gone. */
  #play(asked: readonly Asked[]): Outcomes {
    const { engine } = this.#under;
    const outcomes = new Outcomes();
    for (let step = 0; step < ARRIVAL_STEPS || engine.hasWork(); step++) {
      for (const { taskId, payload, arrivalStep, cancelSteps = Infinity } of asked) {
        if (step === arrivalStep + cancelSteps) engine.cancel(taskId);
        if (step !== arrivalStep) continue;
        engine.submit({ taskId, payload });
        outcomes.begin(taskId);
        if (cancelSteps === 0) engine.cancel(taskId);
      }
      for (const part of engine.step()) outcomes.take(...part);
    }
    assert.equal(outcomes.openCount, 0, "every request ends");
    return outcomes;
  }

  #answerAlone(payload: TextGenerationPayload): Outcome {
    const key = JSON.stringify(payload);
    const known = this.#alone.get(key);
    if (known) return known;
    const outcome = answerAlone(this.#under.alone, payload);
    this.#alone.set(key, outcome);
    return outcome;
  }

  #compare(taskId: TaskId, found: Outcome | undefined, alone: Outcome): void {
    assert(found);
    this.#compared++;
    if (!found.finish) this.#cancelled++;
    this.#cachedTokens += found.finish?.usage.cachedTokens ?? 0;
    const expected = found.finish ? alone : partOf(alone, found.tokens.length);
    const [got, wanted] = [found, expected].map(shownOf);
    if (got !== wanted) this.#findings.push(`${taskId}: found ${got}, alone ${wanted}`);
  }

  report(): Omit<MixReport, "setup"> {
    return {
      compared: this.#compared,
      cancelled: this.#cancelled,
      cachedTokens: this.#cachedTokens,
      preemptions: this.#under.engine.stats().preemptions,
      findings: this.#findings,
    };
  }

  close(): void {
    this.#under.engine.close();
    this.#under.alone.close();
  }
}

/** One follow-up is enough: chains of them would outgrow the context. */
function withoutHistory(payload: TextGenerationPayload): TextGenerationPayload {
  const [first, second] = payload.messages;
  const messages = first?.role === "system" && second
    ? [first, second]
    : [first].flatMap((m) => m ?? []);
  return { ...payload, messages };
}

function partOf({ tokens }: Outcome, count: number): Outcome {
  return { tokens: tokens.slice(0, count), finish: undefined };
}

/** All of an answer that must be the same; how much of it came from a cache need not be. */
function shownOf({ tokens, finish }: Outcome): string {
  const { promptTokens, completionTokens } = finish?.usage ?? {};
  return JSON.stringify([tokens, finish?.finishReason, promptTokens, completionTokens]);
}

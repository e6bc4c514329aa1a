import { assert } from "../../core/errors.ts";
import {
  type BatchOutcome,
  collectBatch,
  isCurrent,
  launchBatch,
  type LaunchedBatch,
  type StepRunner,
} from "./batch_step.ts";
import type { Run } from "./run.ts";

/** A request's part in a step. */
export interface StepPart {
  readonly run: Run;
  readonly tokens: number;
  /** Whether they were of its prompt when the step was launched. */
  readonly wasPrefilling: boolean;
}

/** A step that is over. */
export interface EndedStep {
  /** Those parts of it whose requests still go on from it. */
  readonly parts: readonly StepPart[];
  /** How many there were when it was launched. */
  readonly size: number;
  /** What it gave each of them, or why it could not be computed. */
  readonly outcome: BatchOutcome | { readonly cause: unknown };
}

interface LaunchedStep {
  readonly parts: readonly StepPart[];
  readonly launched: LaunchedBatch;
}

/** Steps that were launched and are not over, the oldest first: as many as the decoder has use for. */
export class StepsUnderWay {
  readonly #runner: StepRunner;
  readonly #steps: LaunchedStep[] = [];
  #launched = 0;
  #lastEndedAt = -Infinity;

  constructor(runner: StepRunner) {
    this.#runner = runner;
  }

  get size(): number {
    return this.#steps.length;
  }

  get hasRoom(): boolean {
    return this.#steps.length < this.#runner.decoder.stepsAtOnce;
  }

  /** @throws when the step could not be computed; it is not under way then. */
  launch(batch: readonly { readonly run: Run; readonly tokens: number }[]): void {
    const parts = batch.map((part): StepPart => {
      return { ...part, wasPrefilling: part.run.generation.isPrefilling };
    });
    const generations = batch.map(({ run, tokens }) => ({ generation: run.generation, tokens }));
    const launched = launchBatch(generations, this.#runner);
    this.#launched++;
    for (const { run } of batch) run.lastStep = this.#launched;
    this.#steps.push({ parts, launched });
  }

  /** Waits for the oldest, `ms` at most; whether it can be collected. */
  wait(ms: number): boolean {
    return this.#steps[0]?.launched.pending.wait(ms) ?? false;
  }

  /** What became of the oldest. */
  collect(): EndedStep {
    const step = this.#steps.shift();
    assert(step, "a step is collected that was launched");
    const { parts, launched } = step;
    const isHere = launched.parts.map(isCurrent);
    const outcome = this.#outcomeOf(launched);
    return { parts: parts.filter((_, i) => isHere[i]), size: parts.length, outcome };
  }

  #outcomeOf(launched: LaunchedBatch): EndedStep["outcome"] {
    try {
      const lastEndedAt = this.#lastEndedAt;
      const outcome = collectBatch(launched, { ...this.#runner, lastEndedAt });
      this.#lastEndedAt = outcome.endedAt;
      // Of those that were suspended or are over since, nothing is left to be told.
      return { ...outcome, results: outcome.results.filter((result) => result !== undefined) };
    } catch (cause) {
      return { cause };
    }
  }
}

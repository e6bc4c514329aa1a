import type {
  BoundModel,
  Builder,
  Engine,
  LoadProgress,
  TaskResponse,
} from "../../engines/engine.ts";
import type { Stage } from "../../engines/fake.ts";
import type { GenerationTask } from "../../engines/engine.ts";
import type { EngineCounts } from "../../core/engine_stats.ts";
import type { TaskId } from "../../core/ids.ts";

/** Is told of each stage once a part of it has been computed, and may end or hold the process. */
export type OnStage = (stage: Stage) => void;

/** A real engine that can be struck in the midst of its work: after a layer, a chunk, a token. */
export class StruckBuilder implements Builder {
  readonly #inner: Builder;
  readonly #onStage: OnStage;

  constructor(inner: Builder, onStage: OnStage) {
    this.#inner = inner;
    this.#onStage = onStage;
  }

  connect(): void {
    this.#inner.connect();
  }

  *load(model: BoundModel): Iterable<LoadProgress> {
    for (const progress of this.#inner.load(model)) {
      yield progress;
      this.#onStage("load");
    }
  }

  breathe(): Promise<void> {
    return this.#inner.breathe();
  }

  build(): Engine {
    return new StruckEngine(this.#inner.build(), this.#onStage);
  }

  close(): void {
    this.#inner.close();
  }
}

class StruckEngine implements Engine {
  readonly #inner: Engine;
  readonly #onStage: OnStage;

  constructor(inner: Engine, onStage: OnStage) {
    this.#inner = inner;
    this.#onStage = onStage;
  }

  warmup(): void {
    this.#inner.warmup();
    this.#onStage("warmup");
  }

  submit(task: GenerationTask): { promptTokens: number } {
    return this.#inner.submit(task);
  }

  hasWork(): boolean {
    return this.#inner.hasWork();
  }

  *step(): Iterable<TaskResponse> {
    const stages = new Set<Stage>();
    for (const response of this.#inner.step()) {
      yield response;
      const stage = stageOf(response);
      if (stage) stages.add(stage);
    }
    stages.forEach(this.#onStage);
  }

  cancel(taskId: TaskId): void {
    this.#inner.cancel(taskId);
  }

  stats(): EngineCounts {
    return this.#inner.stats();
  }

  close(): void {
    this.#inner.close();
  }
}

function stageOf([, response]: TaskResponse): Stage | undefined {
  if (response.type !== "chunk") return undefined;
  const { type } = response.chunk;
  return type === "PrefillProgress" ? "prefill" : type === "Token" ? "decode" : undefined;
}

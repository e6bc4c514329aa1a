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
import type { GroupSpec } from "../../core/group.ts";
import type { TaskId } from "../../core/ids.ts";

/** Is told of each stage once a part of it has been computed, and may end or hold the process. */
export type OnStage = (stage: Stage) => void;

/** A real engine that can be struck in the midst of its work: after a layer, a chunk, a token. */
export class StruckBuilder implements Builder {
  readonly #inner: Builder;
  readonly #onStage: OnStage;
  readonly #gatherRequests: number;

  /** The engine takes no step before it has been given `gatherRequests`. */
  constructor(inner: Builder, onStage: OnStage, gatherRequests = 1) {
    this.#inner = inner;
    this.#onStage = onStage;
    this.#gatherRequests = gatherRequests;
  }

  connect(spec: GroupSpec): Promise<void> {
    return this.#inner.connect(spec);
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
    return new StruckEngine(this.#inner.build(), this.#onStage, this.#gatherRequests);
  }

  close(): void {
    this.#inner.close();
  }
}

class StruckEngine implements Engine {
  readonly #inner: Engine;
  readonly #onStage: OnStage;
  readonly #gatherRequests: number;
  #submitted = 0;

  constructor(inner: Engine, onStage: OnStage, gatherRequests: number) {
    this.#inner = inner;
    this.#onStage = onStage;
    this.#gatherRequests = gatherRequests;
  }

  warmup(): void {
    this.#inner.warmup();
    this.#onStage("warmup");
  }

  submit(task: GenerationTask): { promptTokens: number } {
    const taken = this.#inner.submit(task);
    this.#submitted++;
    return taken;
  }

  hasWork(): boolean {
    return this.#inner.hasWork();
  }

  *step(): Iterable<TaskResponse> {
    if (this.#submitted < this.#gatherRequests) return;
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

  relieve(): void {
    this.#inner.relieve();
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

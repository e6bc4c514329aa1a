import type {
  BoundModel,
  Builder,
  Engine,
  LoadProgress,
  TaskResponse,
} from "../../engines/engine.ts";
import type { Stage } from "../../engines/fake.ts";
import type { GenerationTask, PrefillService } from "../../engines/engine.ts";
import type { EngineCounts } from "../../core/engine_stats.ts";
import type { GroupSpec } from "../../core/group.ts";
import type { TaskId } from "../../core/ids.ts";

/** Is told of each stage once a part of it has been computed, and may end or hold the process. */
export type OnStage = (stage: Stage, rank: number) => void;

/** What an engine has been given so far, and what of it is not over. */
export interface GivenRequests {
  readonly submitted: number;
  readonly inside: number;
}

/** Whether it takes steps yet. */
export type MayStep = (given: GivenRequests) => boolean;

/** A real engine that can be struck in the midst of its work: after a layer, a chunk, a token. */
export class StruckBuilder implements Builder {
  readonly #inner: Builder;
  readonly #onStage: OnStage;
  readonly #mayStep: MayStep;
  #rank = 0;

  /** The engine takes no step before `mayStep` allows it. */
  constructor(inner: Builder, onStage: OnStage, mayStep: MayStep = () => true) {
    this.#inner = inner;
    this.#onStage = onStage;
    this.#mayStep = mayStep;
  }

  connect(spec: GroupSpec): Promise<void> {
    this.#rank = spec.rank;
    return this.#inner.connect(spec);
  }

  *load(model: BoundModel): Iterable<LoadProgress> {
    for (const progress of this.#inner.load(model)) {
      yield progress;
      this.#onStage("load", this.#rank);
    }
  }

  breathe(): Promise<void> {
    return this.#inner.breathe();
  }

  build(): Engine {
    const onStage = (stage: Stage) => this.#onStage(stage, this.#rank);
    // Requests are given to the first rank alone.
    const mayStep = this.#rank > 0 ? () => true : this.#mayStep;
    return new StruckEngine(this.#inner.build(), onStage, mayStep);
  }

  close(): void {
    this.#inner.close();
  }
}

class StruckEngine implements Engine {
  readonly #inner: Engine;
  readonly #onStage: (stage: Stage) => void;
  readonly #mayStep: MayStep;
  #submitted = 0;
  #over = 0;

  constructor(inner: Engine, onStage: (stage: Stage) => void, mayStep: MayStep) {
    this.#inner = inner;
    this.#onStage = onStage;
    this.#mayStep = mayStep;
  }

  warmup(): void {
    this.#inner.warmup();
    this.#onStage("warmup");
  }

  get prefills(): PrefillService | undefined {
    const { prefills } = this.#inner;
    return prefills && {
      tokensPerSecond: prefills.tokensPerSecond,
      flow: (taskId, flow) => prefills.flow(taskId, flow),
      serve: (task) => {
        prefills.serve(task);
        this.#submitted++;
      },
    };
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
    const submitted = this.#submitted;
    if (!this.#mayStep({ submitted, inside: submitted - this.#over })) return;
    const stages = new Set<Stage>();
    for (const response of this.#inner.step()) {
      if (isEnd(response)) this.#over++;
      yield response;
      const stage = stageOf(response);
      if (stage) stages.add(stage);
    }
    for (const stage of stages) this.#onStage(stage);
  }

  /** Of a rank that is led, too, whose steps have nothing to say. */
  arrival(): Promise<void> {
    return this.#inner.arrival?.() ?? new Promise(() => {});
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

function isEnd([, { type }]: TaskResponse): boolean {
  return type === "finished" || type === "cancelled";
}

function stageOf([, response]: TaskResponse): Stage | undefined {
  if (response.type === "prefillFlow") return "prefill";
  if (response.type !== "chunk") return undefined;
  const { type } = response.chunk;
  return type === "PrefillProgress" ? "prefill" : type === "Token" ? "decode" : undefined;
}

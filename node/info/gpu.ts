import type { RunnerId } from "../../core/ids.ts";
import type { NodeMemory } from "../../core/telemetry.ts";
import { type Gathering, inTime } from "./gathering.ts";
import { keepFollowing } from "./keep_following.ts";
import { firstGpu, type GpuSample, NVIDIA_FIELDS, parseNvidiaSmi } from "./nvidia_smi.ts";

/** How often the GPU is looked at: models are placed by what is free of its memory. */
const GPU_MS = 2_000;

/** How long a node waits for its GPU's first word before it joins. */
export const FIRST_SAMPLE_MS_MAX = 3_000;

/**
 * The GPU that runners compute on, by one `nvidia-smi` that goes on for as long as the node does.
 * Where there is no such program there is no process.
 */
export class Gpu {
  readonly #loadedRunners: () => readonly RunnerId[];
  #sample: GpuSample | undefined;
  /** Runners that were loaded when the sample before this one came: their weights are in it. */
  #inSample: readonly RunnerId[] = [];
  #loadedBefore: readonly RunnerId[] = [];

  constructor(loadedRunners: () => readonly RunnerId[]) {
    this.#loadedRunners = loadedRunners;
  }

  /** The newest sample. */
  get sample(): GpuSample | undefined {
    return this.#sample;
  }

  /**
   * The GPU's memory and the runners that were in it when it was measured. What it said last holds
   * while the program is started again: nothing else is known.
   */
  memory(): Pick<NodeMemory, "gpu" | "loadedRunners"> | undefined {
    const gpu = this.#sample?.memory;
    if (!gpu) return undefined;
    const loaded = this.#loadedRunners();
    return { gpu, loadedRunners: loaded.filter((id) => this.#inSample.includes(id)) };
  }

  /**
   * Goes on in `ended`; resolves with the first sample, or when it is clear that there is none.
   * `onSample` hears of each.
   */
  async watch(
    { sources, signal }: Gathering,
    onSample: () => void,
  ): Promise<{ readonly ended: Promise<void> }> {
    const first = Promise.withResolvers<void>();
    const words = [
      "nvidia-smi",
      `--id=${firstGpu(sources.env("CUDA_VISIBLE_DEVICES"))}`,
      `--query-gpu=${NVIDIA_FIELDS}`,
      "--format=csv,noheader,nounits",
      `--loop-ms=${GPU_MS}`,
    ] as const;
    const onLine = (line: string) => {
      const sample = parseNvidiaSmi(line);
      if (!sample) return false;
      this.#take(sample);
      first.resolve();
      onSample();
      return true;
    };
    const ended = keepFollowing(words, { sources, signal, onLine, onEnd: () => first.resolve() });
    await inTime(first.promise, { sources, signal, timeoutMs: FIRST_SAMPLE_MS_MAX });
    return { ended };
  }

  #take(sample: GpuSample): void {
    this.#sample = sample;
    this.#inSample = this.#loadedBefore;
    this.#loadedBefore = this.#loadedRunners();
  }
}

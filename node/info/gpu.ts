import type { RunnerId } from "../../core/ids.ts";
import type { NodeMemory } from "../../core/telemetry.ts";
import type { Gathering } from "./gathering.ts";
import { keepFollowing } from "./keep_following.ts";
import { firstGpu, type GpuSample, NVIDIA_FIELDS, parseNvidiaSmi } from "./nvidia_smi.ts";

/** How often the GPU is looked at: models are placed by what is free of its memory. */
const GPU_MS = 2_000;

/** How long the first sample may take: a driver that nobody else uses is started for it. */
const FIRST_SAMPLE_MS_MAX = 10_000;

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
   * Takes a first sample, then follows the GPU until `signal` says so. `onSample` hears of each,
   * `onFirst` once when the first has come, or it is clear that none will soon.
   */
  async watch(
    { sources, signal }: Gathering,
    { onSample, onFirst }: { readonly onSample: () => void; readonly onFirst: () => void },
  ): Promise<void> {
    const words = [
      "nvidia-smi",
      `--id=${firstGpu(sources.env("CUDA_VISIBLE_DEVICES"))}`,
      `--query-gpu=${NVIDIA_FIELDS}`,
      "--format=csv,noheader,nounits",
    ] as const;
    const onLine = (line: string) => {
      const sample = parseNvidiaSmi(line);
      if (!sample) return false;
      this.#take(sample);
      onSample();
      return true;
    };
    // One that ends says all it has at once; one that goes on may keep it in a buffer for a while.
    const first = await sources.run(words, { timeoutMs: FIRST_SAMPLE_MS_MAX, signal });
    if (first.ok) first.text.split("\n").forEach(onLine);
    onFirst();
    if (!first.ok && first.isMissing) return;
    await keepFollowing([...words, `--loop-ms=${GPU_MS}`], {
      sources,
      signal,
      onLine,
      onEnd: () => {},
    });
  }

  #take(sample: GpuSample): void {
    this.#sample = sample;
    this.#inSample = this.#loadedBefore;
    this.#loadedBefore = this.#loadedRunners();
  }
}

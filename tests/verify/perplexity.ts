/** How likely a fixed text is to a model: on our kernels, against MLX's own. */
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { MlxDecoder } from "../../engines/mlx/mlx_decoder.ts";
import type { KvDtype } from "../../ffi/mod.ts";
import { logsumexp, mlxVersion, Scope } from "../../ffi/mod.ts";
import { ggufTokenizer, goldenJson, goldenPath, loadModel } from "../engines/golden.ts";

/** Tokens that are read together; each but the first is predicted from those before it. */
const WINDOW_TOKENS = 512;

/**
 * By how much our kernels may change a perplexity (issue 5), by the type of the KV cache: 4 bits
 * cost SmolLM2 some 5 % (decision 17).
 */
export const PERPLEXITY_CHANGE_MAX: Readonly<Record<KvDtype, number>> = {
  float32: 0.001,
  float16: 0.001,
  q8: 0.001,
  q4: 0.06,
};

const TEXT = "text/perplexity.txt";
const RECORDING = "parity/perplexity.json";

/** How well each window of the text was predicted. */
export interface Prediction {
  /** Sum of −ln p over the window's tokens, window by window. */
  readonly nats: readonly number[];
  /** Tokens that were predicted, likewise. */
  readonly counts: readonly number[];
}

/** What MLX's own kernels give for the text, in f32. */
export interface Recording extends Prediction {
  readonly model: string;
  readonly mlx: string;
  /** Of the text. */
  readonly tokens: number;
  readonly perplexity: number;
}

/** The recording that is kept. */
export function perplexityRecording(): Recording {
  return goldenJson(RECORDING);
}

/** e to the mean over all tokens, or over those of the first windows. */
export function perplexityOf({ nats, counts }: Prediction, windows = nats.length): number {
  const sum = (list: readonly number[]) => list.slice(0, windows).reduce((a, b) => a + b, 0);
  return Math.exp(sum(nats) / sum(counts));
}

/** The text's tokens in windows, the last one as long as it comes. */
function windowsOf(modelPath: string): number[][] {
  const ids = ggufTokenizer(modelPath).encode(Deno.readTextFileSync(goldenPath(TEXT)));
  const count = Math.ceil(ids.length / WINDOW_TOKENS);
  const windows = Array.from(
    { length: count },
    (_, i) => ids.slice(i * WINDOW_TOKENS, (i + 1) * WINDOW_TOKENS),
  );
  return windows.filter((window) => window.length > 1);
}

/** Predicts the text, or its first windows, on our kernels. */
export async function predictOnOurs(
  modelPath: string,
  { windows, kvDtype }: {
    readonly windows?: number;
    readonly kvDtype?: KvDtype;
  } = {},
): Promise<Prediction> {
  const { model, weights } = loadModel(modelPath, { isPacked: true });
  using _weights = weights;
  using decoder = new CpuDecoder(model, kvDtype ? { kvDtype } : {});
  return await predict(decoder, windowsOf(modelPath).slice(0, windows));
}

/** Records what MLX's own kernels give; some minutes on a CPU. */
export async function recordPerplexity(
  modelPath: string,
  onProgress: (line: string) => void,
): Promise<Recording> {
  const { model, weights } = loadModel(modelPath, { isPacked: false });
  using _weights = weights;
  using decoder = new MlxDecoder(model);
  const windows = windowsOf(modelPath);
  const prediction = await predict(decoder, windows, onProgress);
  const recording = {
    model: "SmolLM2-135M-Instruct.Q4_1.gguf",
    mlx: mlxVersion(),
    tokens: windows.reduce((sum, { length }) => sum + length, 0),
    perplexity: perplexityOf(prediction),
    ...prediction,
  };
  Deno.writeTextFileSync(goldenPath(RECORDING), `${JSON.stringify(recording, null, 2)}\n`);
  return recording;
}

async function predict(
  decoder: Decoder,
  windows: readonly (readonly number[])[],
  onProgress: (line: string) => void = () => {},
): Promise<Prediction> {
  const nats: number[] = [];
  for (const window of windows) {
    nats.push(await natsOf(decoder, window));
    onProgress(`window ${nats.length} of ${windows.length}: ${nats.at(-1)} nats`);
  }
  return { nats, counts: windows.map(({ length }) => length - 1) };
}

/** −ln p of each token of a window after the first, summed. */
async function natsOf(decoder: Decoder, window: readonly number[]): Promise<number> {
  using cache = decoder.makeCache();
  using _scope = new Scope();
  const ids = window.slice(0, -1);
  const output = await decoder.run([{ cache, ids, logitsCount: ids.length }]);
  let sum = 0;
  for (const [row, next] of window.slice(1).entries()) {
    using _row = new Scope();
    const logits = output.logits(row); // [V]
    sum += logsumexp(logits).item() - logits.take(next, 0).item();
  }
  return sum;
}

import { z } from "zod";

const count = z.int().min(1);

/** The fields of a row that tell the shape of a model. */
export const architectureFields = {
  layers: count,
  hidden: count,
  kv_heads: count,
  heads: count.optional(),
  head_dim: count.optional(),
  /** Whether queries and keys are normalised for each head (Qwen3). */
  has_head_norms: z.boolean().default(false),
  /** Width of the MLP of layers without experts. */
  intermediate: count.optional(),
  /** Layers before the first with experts. */
  dense_layers: z.int().min(0).default(0),
  experts: count.optional(),
  shared_experts: z.int().min(0).default(0),
  expert_intermediate: count.optional(),
  vocab: count.optional(),
  /** Whether the files hold no head, because the embedding is one. */
  tied: z.boolean().default(false),
  /** Multi-head latent attention (arXiv:2405.04434): ranks, and widths of a head. */
  mla: z.strictObject({ query_rank: count, rank: count, plain: count, rope: count, value: count })
    .optional(),
};

const Architecture = z.object(architectureFields);
type Architecture = z.output<typeof Architecture>;

/** Numbers that a model has, by what becomes of them when it is quantised. */
export interface Parameters {
  /** In matrices, which are quantised. */
  readonly matrices: number;
  /** In vectors, which are not. */
  readonly vectors: number;
}

/** The parameters of a model; undefined where its row does not tell the whole architecture. */
export function parameterCount(shape: Architecture): Parameters | undefined {
  const { vocab, hidden, layers, tied } = shape;
  if (vocab === undefined) return undefined;
  const embeddings = vocab * hidden * (tied ? 1 : 2);
  const headNorms = shape.has_head_norms ? 2 * (shape.head_dim ?? 0) : 0;
  return {
    matrices: embeddings + layers * attention(shape) + mlps(shape),
    vectors: hidden + layers * (2 * hidden + headNorms),
  };
}

function attention({ hidden, heads = 0, kv_heads, head_dim = 0, mla }: Architecture): number {
  if (!mla) return 2 * hidden * (heads + kv_heads) * head_dim;
  const { query_rank, rank, plain, rope, value } = mla;
  const queries = query_rank * (hidden + heads * (plain + rope));
  const latent = hidden * (rank + rope) + rank * heads * (plain + value);
  return queries + latent + heads * value * hidden;
}

function mlps(shape: Architecture): number {
  const { layers, hidden, intermediate = 0, experts, expert_intermediate = 0 } = shape;
  if (experts === undefined) return layers * 3 * hidden * intermediate;
  const { dense_layers, shared_experts } = shape;
  const sparse = 3 * hidden * expert_intermediate * (experts + shared_experts) + experts * hidden;
  return dense_layers * 3 * hidden * intermediate + (layers - dense_layers) * sparse;
}

/** Width of a number that is not quantised. */
const BITS = 16;

/** Numbers that share a scale and a bias when MLX quantises, which has both in 16 bits. */
const GROUP_SIZE = 64;

/** What the parameters take, quantised by MLX to `4bit` and the like, or as `bf16` or `fp16`. */
export function weightBytes({ matrices, vectors }: Parameters, quantization: string): number {
  const bits = /^(\d)bit$/.exec(quantization)?.[1];
  const matrixBits = bits === undefined ? BITS : Number(bits) + 2 * BITS / GROUP_SIZE;
  return Math.round((matrices * matrixBits + vectors * BITS) / 8);
}

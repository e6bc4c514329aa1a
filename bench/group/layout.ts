import type { Sharding } from "../../core/instance.ts";

/** How a model is spread over machines. */
export interface Layout {
  readonly name: string;
  readonly ranks: number;
  readonly sharding: Sharding;
  /** Links that a token crosses one after the other, where that is known by design. */
  readonly hops: number | null;
  /** It is of a model whose steps take next to no time: what is measured is the way of a token. */
  readonly isOfSmallModel?: true;
}

/** The whole model on one machine: what the others are measured against. */
export const ONE_NODE: Layout = { name: "one node", ranks: 1, sharding: "Pipeline", hops: 0 };

/** Half of the layers on each of two machines: there and back again for each token. */
export const PIPELINE_TWO: Layout = {
  ...{ name: "pipeline over two nodes", ranks: 2, sharding: "Pipeline", hops: 2 },
};

const PIPELINE_THREE: Layout = {
  ...{ name: "pipeline over three nodes", ranks: 3, sharding: "Pipeline", hops: 3 },
};

/** Pipelines in which links count, and the processor's caches and sleep do not. */
export const SMALL_LAYOUTS: readonly Layout[] = [PIPELINE_TWO, PIPELINE_THREE].map((layout) => ({
  ...{ ...layout, name: `${layout.name}, small model`, isOfSmallModel: true },
}));

/** What exo is measured in. A tensor group sums twice in each layer: its hops are of the model. */
export const EXO_LAYOUTS: readonly Layout[] = [
  ONE_NODE,
  PIPELINE_TWO,
  PIPELINE_THREE,
  { name: "tensor over three nodes", ranks: 3, sharding: "Tensor", hops: null },
  ...SMALL_LAYOUTS,
];

/** What llama.cpp is measured in: how often its RPC asks and waits is its own. */
export const LLAMA_LAYOUTS: readonly Layout[] = [ONE_NODE, { ...PIPELINE_TWO, hops: null }];

/** Machines that the layouts need. */
export const MACHINES = Math.max(...EXO_LAYOUTS.map(({ ranks }) => ranks));

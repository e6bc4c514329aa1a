import { deepEqual, equal, throws } from "node:assert/strict";
import type { Shard } from "../../../core/instance.ts";
import {
  extentOf,
  type ModelSlice,
  partOf,
  splitsVocabulary,
  vocabularyOf,
} from "../../../engines/models/part.ts";
import { bind, goldenPath } from "../golden.ts";

const { shard: WHOLE } = bind(goldenPath("models/tiny-tied")); // Two layers.
const sum: ModelSlice["sum"] = (x) => x;

Deno.test("partOf() gives what a shard has of its model", () => {
  deepEqual(partOf(WHOLE), { type: "whole" });
  const second: Shard = { ...WHOLE, deviceRank: 1, worldSize: 2, startLayer: 1 };
  deepEqual(partOf(second), { type: "stage", startLayer: 1, endLayer: 2, layers: 2 });
  const slice: Shard = { ...WHOLE, type: "TensorShardMetadata", deviceRank: 1, worldSize: 2 };
  deepEqual(partOf(slice, sum), { type: "slice", rank: 1, size: 2, sum });
  const split = partOf(slice, sum, { splitsVocabulary: true });
  equal(splitsVocabulary(split), true);
  deepEqual(partOf({ ...slice, deviceRank: 0, worldSize: 1 }), { type: "whole" });
});

Deno.test("partOf() refuses a slice without a group, and a shard of an image model", () => {
  const slice: Shard = { ...WHOLE, type: "TensorShardMetadata", worldSize: 2 };
  throws(() => partOf(slice), { code: "load_failed", message: /rank 0 of 2 .* no group found/ });
  const cfg = { cfgRank: 0, cfgWorldSize: 2, pipelineRank: 0, pipelineWorldSize: 1 } as const;
  const image: Shard = { ...WHOLE, ...cfg, type: "CfgShardMetadata", worldSize: 2 };
  throws(() => partOf(image, sum), { code: "load_failed", message: /CfgShardMetadata found/ });
});

Deno.test("extentOf() gives the first stage the embedding, and the last one the head", () => {
  const of = (startLayer: number, endLayer: number) => {
    const { layers, hasEmbedding, hasHead } = extentOf(
      { type: "stage", startLayer, endLayer, layers: 4 },
      4,
    );
    return [layers.from, layers.to, hasEmbedding, hasHead];
  };
  deepEqual(of(0, 1), [0, 1, true, false]);
  deepEqual(of(1, 3), [1, 3, false, false]);
  deepEqual(of(3, 4), [3, 4, false, true]);
  const slice = { type: "slice" as const, rank: 1, size: 2, sum };
  equal(extentOf(slice, 4).hasHead, false);
  equal(extentOf({ ...slice, rank: 0 }, 4).hasHead, true);
  equal(extentOf({ ...slice, splitsVocabulary: true }, 4).hasHead, true);
});

Deno.test("extentOf() refuses layers that the model does not have", () => {
  for (const [startLayer, endLayer, layers] of [[0, 2, 3], [2, 2, 4], [3, 5, 4], [-1, 2, 4]]) {
    const stage = { type: "stage" as const, startLayer, endLayer, layers } as const;
    throws(() => extentOf(stage as Parameters<typeof extentOf>[0], 4), {
      code: "load_failed",
      message: /the model has 4 layers/,
    });
  }
});

Deno.test("vocabularyOf() gives every id to one rank, whatever their number", () => {
  for (const [vocabSize, size] of [[101, 4], [49_152, 3], [5, 4]] as const) {
    let next = 0;
    for (let rank = 0; rank < size; rank++) {
      const { from, to } = vocabularyOf(vocabSize, { rank, size });
      equal(from, next);
      equal(to - from >= Math.floor(vocabSize / size), true);
      next = to;
    }
    equal(next, vocabSize);
  }
});

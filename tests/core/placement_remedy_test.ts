import { equal, match, ok } from "node:assert/strict";
import type { NodeId } from "../../core/ids.ts";
import { neededBytes } from "../../core/memory_fit.ts";
import type { ModelCard } from "../../core/model_card.ts";
import { place } from "../../core/placement.ts";
import { remedy } from "../../core/placement_remedy.ts";
import { MIB } from "../../core/units.ts";
import {
  A,
  B,
  cardOf,
  created,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  MODEL,
  nodeStarted,
} from "../support/cluster.ts";

const KV_BYTES_PER_TOKEN = 1_024;
const nodes = fold([nodeStarted(A), nodeStarted(B)]);
const card = (mib: number) =>
  cardOf({
    storageSize: { inBytes: mib * MIB },
    kvBytesPerToken: KV_BYTES_PER_TOKEN,
    contextLength: 100_000,
  });

function remedyFor(
  card: ModelCard,
  { freeMib, state = nodes, nodeIds }: {
    freeMib: number | undefined;
    state?: typeof nodes;
    nodeIds?: readonly NodeId[];
  },
): string {
  const memory = freeMib === undefined ? new Map() : memoryOf(freeMib * MIB, [A]);
  return remedy(state, memory, { card, needed: neededBytes(card), nodeIds });
}

Deno.test("remedy() proposes a context that place() then takes", () => {
  const hint = remedyFor(card(100), { freeMib: 104 });
  const contextTokens = Number(/--context (\d+)$/.exec(hint)?.[1]);
  equal(hint, `exo instance create ${MODEL} --context 4096`);
  const request = {
    modelId: MODEL,
    sharding: "Pipeline",
    instanceMeta: "MlxRing",
    minNodes: 1,
    config: { contextTokens },
  } as const;
  const asked = { instanceId: instanceId("i"), card: card(100), request };
  ok(place(nodes, memoryOf(104 * MIB, [A]), asked).ok);
});

Deno.test("remedy() names an instance whose memory would do, the smallest of them", () => {
  const held = (id: string, mib: number) =>
    created(instanceOf(id, [A], { card: cardOf({ storageSize: { inBytes: mib * MIB } }) }));
  const state = fold([held("small", 10), held("large", 300), held("largest", 400)], nodes);
  equal(remedyFor(card(200), { freeMib: 720, state }), "make room: exo instance delete large");
});

Deno.test("remedy() says so when nothing but a smaller model would help", () => {
  match(remedyFor(card(200), { freeMib: 100 }), /smaller model, .* for the 100\.0 MiB free/);
  match(remedyFor(card(100), { freeMib: 100 }), /smaller model/, "no room for a context");
});

Deno.test("remedy() looks at the nodes that were asked for", () => {
  match(remedyFor(card(200), { freeMib: 1_000, nodeIds: [B] }), /ask again in a second/);
  match(remedyFor(card(200), { freeMib: undefined }), /reports its memory once/);
  equal(remedyFor(card(200), { freeMib: 1, state: fold([]) }), "start a node with exo serve");
});

import { equal, match, ok } from "node:assert/strict";
import type { ModelCard } from "../../../core/model_card.ts";
import { place } from "../../../core/placement.ts";
import type { PlacementRequest } from "../../../core/placement_request.ts";
import { MIB } from "../../../core/units.ts";
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
  placementOf,
  reported,
  runnerId,
  telemetryOf,
} from "../../support/fixtures.ts";

const KV_BYTES_PER_TOKEN = 1_024;
const nodes = fold([nodeStarted(A), nodeStarted(B)]);
const card = (mib: number) =>
  cardOf({
    storageSize: { inBytes: mib * MIB },
    kvBytesPerToken: KV_BYTES_PER_TOKEN,
    contextLength: 100_000,
  });

/** The hint of a refused placement. */
function remedyFor(
  card: ModelCard,
  { freeMib, state = nodes, loaded = [], ...fields }: Partial<PlacementRequest> & {
    freeMib: number | undefined;
    state?: typeof nodes;
    loaded?: readonly string[];
  },
): string {
  const runners = loaded.map((id) => runnerId(`${id}:0`));
  const memory = freeMib === undefined ? new Map() : memoryOf(freeMib * MIB, [A], runners);
  const asked = { instanceId: instanceId("new"), card, request: placementOf(fields) };
  const placed = place(state, telemetryOf(memory), asked);
  ok(!placed.ok);
  return placed.hint;
}

/** Whether place() takes a model on {@linkcode A}. */
function isTaken(
  card: ModelCard,
  { freeMib, state = nodes, loaded = [], contextTokens }: {
    freeMib: number;
    state?: typeof nodes;
    loaded?: readonly string[];
    contextTokens?: number;
  },
): boolean {
  const runners = loaded.map((id) => runnerId(`${id}:0`));
  const request = placementOf(contextTokens === undefined ? {} : { config: { contextTokens } });
  const asked = { instanceId: instanceId("new"), card, request };
  return place(state, telemetryOf(memoryOf(freeMib * MIB, [A], runners)), asked).ok;
}

Deno.test("remedy() proposes a context that place() then takes", () => {
  const hint = remedyFor(card(100), { freeMib: 104 });
  const contextTokens = Number(/--context (\d+)$/.exec(hint)?.[1]);
  equal(hint, `exo instance create ${MODEL} --context 4096`);
  ok(isTaken(card(100), { freeMib: 104, contextTokens }));
});

Deno.test("remedy() keeps the bits of the cache that were asked for", () => {
  const wide = { ...card(100), kvBytesPerToken: 8 * KV_BYTES_PER_TOKEN };
  const hint = remedyFor(wide, { freeMib: 104, config: { kvBits: 8 } });
  equal(hint, `exo instance create ${MODEL} --context 1792 --kv-bits 8`);
});

/** Instances on {@linkcode A} by their weights in MiB, some of them loaded. */
function holding(held: Readonly<Record<string, number>>, loaded: readonly string[] = []) {
  const instances = Object.entries(held).map(([id, mib]) =>
    created(instanceOf(id, [A], { card: cardOf({ storageSize: { inBytes: mib * MIB } }) }))
  );
  const reports = loaded.map((id) => reported(`${id}:0`, "RunnerReady"));
  return fold([...instances, ...reports], nodes);
}

Deno.test("remedy() names an instance whose memory would do, the smallest of them", () => {
  const state = holding({ small: 10, large: 300, largest: 400 });
  equal(remedyFor(card(200), { freeMib: 720, state }), "make room: exo instance delete large");
});

Deno.test("remedy() names an instance only if place() takes the model once it is gone", () => {
  interface Case {
    readonly free: number;
    readonly held: Readonly<Record<string, number>>;
    readonly loaded: readonly string[];
    readonly found: string | undefined;
  }
  const cases: readonly Case[] = [
    { free: 50, held: { x: 300 }, loaded: [], found: undefined },
    { free: 250, held: { x: 300 }, loaded: [], found: "x" },
    { free: 50, held: { x: 300 }, loaded: ["x"], found: "x" },
    { free: 50, held: { x: 300, y: 200 }, loaded: ["x"], found: undefined },
    { free: 50, held: { x: 300, y: 100 }, loaded: ["x"], found: "x" },
  ];
  for (const { free, held, loaded, found } of cases) {
    const hint = remedyFor(card(200), { freeMib: free, state: holding(held, loaded), loaded });
    const [, proposed] = /^make room: exo instance delete (\w+)$/.exec(hint) ?? [];
    equal(proposed, found, JSON.stringify({ free, held, loaded }));
    if (proposed === undefined) continue;
    const rest = Object.entries(held).filter(([id]) => id !== proposed);
    const freed = loaded.includes(proposed) ? held[proposed] ?? 0 : 0;
    const left = loaded.filter((id) => id !== proposed);
    const state = holding(Object.fromEntries(rest), left);
    ok(isTaken(card(200), { freeMib: free + freed, state, loaded: left }));
  }
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

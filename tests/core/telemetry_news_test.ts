import { equal } from "node:assert/strict";
import { NodeId, RunnerId } from "../../core/ids.ts";
import { linkKey, type NodeMemory } from "../../core/telemetry.ts";
import {
  isDiskNews,
  isLinkNews,
  isMemoryNews,
  isSystemNews,
  SYSTEM_STEPS,
} from "../../core/telemetry_news.ts";

const MEMORY: NodeMemory = { ramTotalBytes: 1_000, ramAvailableBytes: 500 };

Deno.test("memory is news when a hundredth of it is free that was not, or the reverse", () => {
  equal(isMemoryNews(undefined, MEMORY), true, "nobody has heard of it");
  equal(isMemoryNews(MEMORY, { ...MEMORY }), false);
  equal(isMemoryNews(MEMORY, { ...MEMORY, ramAvailableBytes: 509 }), false);
  equal(isMemoryNews(MEMORY, { ...MEMORY, ramAvailableBytes: 510 }), true);
  equal(isMemoryNews(MEMORY, { ...MEMORY, ramAvailableBytes: 490 }), true);
  equal(isMemoryNews(MEMORY, { ...MEMORY, ramTotalBytes: 1_001 }), true);
});

Deno.test("memory is news when other runners are in it, however small they are", () => {
  const loadedRunners = [RunnerId.parse("i:0")];
  equal(isMemoryNews(MEMORY, { ...MEMORY, loadedRunners }), true);
  equal(isMemoryNews({ ...MEMORY, loadedRunners }, { ...MEMORY, loadedRunners: [] }), true);
  equal(isMemoryNews({ ...MEMORY, loadedRunners }, { ...MEMORY, loadedRunners }), false);
});

Deno.test("swap and the memory of a GPU are news like memory", () => {
  const swapped = { ...MEMORY, swapTotalBytes: 100, swapAvailableBytes: 50 };
  equal(isMemoryNews(MEMORY, swapped), true, "it has come");
  equal(isMemoryNews(swapped, { ...swapped, swapAvailableBytes: 49 }), true);
  equal(isMemoryNews(swapped, { ...swapped }), false);
  const none = { ...MEMORY, swapTotalBytes: 0, swapAvailableBytes: 0 };
  equal(isMemoryNews(none, none), false, "nothing of nothing");
  const withGpu = { ...MEMORY, gpu: { totalBytes: 1_000, availableBytes: 900 } };
  equal(isMemoryNews(MEMORY, withGpu), true);
  equal(isMemoryNews(withGpu, MEMORY), true, "it is gone");
  const gpu = { totalBytes: 1_000, availableBytes: 895 };
  equal(isMemoryNews(withGpu, { ...withGpu, gpu }), false);
  equal(isMemoryNews(withGpu, { ...withGpu, gpu: { ...gpu, availableBytes: 890 } }), true);
});

Deno.test("a disk is news by hundredths, too", () => {
  const disk = { totalBytes: 1_000, availableBytes: 10 };
  equal(isDiskNews(undefined, disk), true);
  equal(isDiskNews(disk, { ...disk, availableBytes: 1 }), false);
  equal(isDiskNews(disk, { ...disk, availableBytes: 0 }), true);
});

Deno.test("how a machine does is news when one figure has moved by its step, come or gone", () => {
  equal(isSystemNews(undefined, {}), true);
  equal(isSystemNews({}, {}), false);
  for (const [figure, step] of Object.entries(SYSTEM_STEPS)) {
    equal(isSystemNews({ [figure]: 0 }, { [figure]: step * 0.9 }), false, figure);
    equal(isSystemNews({ [figure]: 0 }, { [figure]: step }), true, figure);
    equal(isSystemNews({}, { [figure]: 0 }), true, figure);
    equal(isSystemNews({ [figure]: 0 }, {}), true, figure);
  }
});

Deno.test("a link is news when it is a fifth better or worse, and not for noise", () => {
  equal(isLinkNews(undefined, {}), true);
  equal(isLinkNews({}, {}), false);
  equal(isLinkNews({}, { latencyMs: 1 }), true);
  equal(isLinkNews({ latencyMs: 10 }, { latencyMs: 11.9 }), false);
  equal(isLinkNews({ latencyMs: 10 }, { latencyMs: 12 }), true);
  equal(isLinkNews({ latencyMs: 0.1 }, { latencyMs: 0.29 }), false, "of a fast one");
  const before = { latencyMs: 1, bandwidthBitsPerSecond: 1e9 };
  equal(isLinkNews(before, { ...before, bandwidthBitsPerSecond: 0.9e9 }), false);
  equal(isLinkNews(before, { ...before, bandwidthBitsPerSecond: 0.8e9 }), true);
});

Deno.test("the name of a link begins with the node that measures it", () => {
  const [a, b] = [NodeId.parse("a"), NodeId.parse("b")];
  const edge = { type: "SocketConnection" as const, sinkMultiaddr: "/ip4/10.0.0.1/tcp/1" };
  equal(linkKey(a, b, edge).startsWith("a>b>"), true);
});

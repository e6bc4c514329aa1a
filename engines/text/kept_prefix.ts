import type { KvMemory } from "../kv_memory.ts";
import type { Run } from "./run.ts";

/** Keeps what a request has computed for those to come. */
export function keepPrefix({ generation, usesPrefixes }: Run, memory: KvMemory): void {
  const { cache, cachedIds } = generation;
  if (cache && usesPrefixes) memory.keep(cachedIds, cache);
}

/** So that those who come meanwhile find it: each whole block, and all of a prompt. */
export function keepProgress(run: Run, memory: KvMemory): void {
  const { cache, ids, pendingTokens } = run.generation;
  if (!cache || !run.usesPrefixes) return;
  const { blockPositions } = memory;
  const isPromptRead = pendingTokens === 0 && !run.hasKeptPrompt;
  const blocks = Math.floor(cache.offset / blockPositions);
  if (blocks <= run.keptBlocks && !isPromptRead) return;
  const positions = isPromptRead ? cache.offset : blocks * blockPositions;
  memory.keep(ids.slice(0, positions), cache);
  run.keptBlocks = blocks;
  run.hasKeptPrompt ||= isPromptRead;
}

import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import type { KvBlock } from "../../../engines/decoder.ts";
import { commonPrefixLength, PrefixCache } from "../../../engines/text/prefix_cache.ts";

const SIZE = 4;

/** Blocks whose contents are the keys that they were shared for, and how many are held. */
class FakeBlocks {
  held = 0;
  #resumes: KvBlock["resumes"];

  constructor(resumes?: KvBlock["resumes"]) {
    this.#resumes = resumes;
  }

  /** The shares of a sequence with these keys. */
  of(keys: readonly number[]): (index: number) => KvBlock & { keys: readonly number[] } {
    return (index) => {
      this.held++;
      let isHeld = true;
      return {
        keys: keys.slice(index * SIZE, (index + 1) * SIZE),
        ownBytes: 10,
        ...(this.#resumes ? { resumes: this.#resumes } : {}),
        [Symbol.dispose]: () => {
          ok(isHeld, "a share is given back once");
          isHeld = false;
          this.held--;
        },
      };
    };
  }
}

/** A prefix cache that has seen these prompts. */
function having(prompts: readonly (readonly number[])[], resumes?: KvBlock["resumes"]) {
  const blocks = new FakeBlocks(resumes);
  const cache = new PrefixCache(SIZE);
  for (const keys of prompts) cache.insert(keys, blocks.of(keys));
  return { cache, blocks };
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** How much of a prompt is found; its last token is never looked for. */
const found = (cache: PrefixCache, keys: readonly number[]) =>
  cache.lookup(keys, keys.length - 1).positions;

Deno.test("§10.5 common prefix: identical 5; disjoint; 3 common; shorter query of 3; 1; either empty", () => {
  const five = [1, 2, 3, 4, 5];
  equal(commonPrefixLength(five, five), 5);
  equal(commonPrefixLength(five, [6, 7, 8]), 0);
  equal(commonPrefixLength(five, [1, 2, 3, 9, 9]), 3);
  equal(commonPrefixLength(five, [1, 2, 3]), 3);
  equal(commonPrefixLength(five, [1, 9]), 1);
  equal(commonPrefixLength(five, []), 0);
  equal(commonPrefixLength([], five), 0);
});

Deno.test("§10.5 the same prompt twice: all of it is found but its last token", () => {
  for (const length of [2, 4, 5, 8, 11]) {
    const prompt = range(0, length);
    const { cache } = having([prompt]);
    equal(found(cache, prompt), length - 1);
  }
});

Deno.test("§10.5 a prompt that goes on where one stopped takes its place: nothing is there twice", () => {
  const { cache, blocks } = having([range(0, 6), range(0, 11)]);
  equal(cache.size, 3);
  equal(blocks.held, 3);
  equal(found(cache, range(0, 20)), 11);
});

Deno.test("§10.5 prompts that begin alike share what they have in common", () => {
  const [one, other] = [[...range(0, 6), 90, 91], [...range(0, 6), 70, 71, 72]];
  const { cache, blocks } = having([one, other]);
  // The first block once, the second for each, the rest of the other.
  equal(cache.size, 4);
  equal(blocks.held, 4);
  equal(found(cache, [...one, 0]), 8);
  equal(found(cache, [...other, 0]), 9);
  equal(found(cache, [...range(0, 6), 1, 2]), 6);
});

Deno.test("§10.5 an entry is the same after a hit and 50 generated tokens", () => {
  const prompt = range(0, 10);
  const { cache, blocks } = having([prompt]);
  const answered = [...prompt, ...range(100, 150)];
  equal(found(cache, answered), 10);
  cache.insert(answered, blocks.of(answered));
  const { blocks: hit } = cache.lookup(prompt, 10);
  deepEqual(
    hit.flatMap((block) => [...(block as unknown as { keys: number[] }).keys]).slice(0, 10),
    prompt,
  );
});

Deno.test("§10.5 under pressure all goes but what was used last", () => {
  const [old, fresh] = [range(0, 9), range(50, 59)];
  const { cache, blocks } = having([old, fresh]);
  equal(cache.size, 6);
  for (let i = 0; i < 3; i++) ok(cache.evict());
  equal(found(cache, old), 0);
  equal(found(cache, fresh), 8);
  while (cache.evict());
  equal(cache.evict(), false);
  deepEqual([cache.size, blocks.held, cache.ownBytes], [0, 0, 0]);
});

Deno.test("PrefixCache lets go of the end of a prompt before its beginning", () => {
  const { cache } = having([range(0, 12)]);
  cache.evict();
  equal(found(cache, range(0, 12)), 8);
  cache.evict();
  equal(found(cache, range(0, 12)), 4);
});

Deno.test("§10.5 a recurrent model is a miss where no state is kept before the match ends", () => {
  const snapshots = having([range(0, 8)], "end").cache;
  equal(found(snapshots, [...range(0, 6), 99, 98]), 4);
  equal(found(snapshots, [...range(0, 3), 99]), 0);
  equal(found(snapshots, range(0, 20)), 8);
  equal(found(having([range(0, 8)], "nowhere").cache, range(0, 20)), 0);
});

Deno.test("§10.5 another image at the same place cuts the match at its start", () => {
  // An image's positions have keys of their own: below 0, and no two images the same.
  const withImage = (image: number) => [1, 2, 3, -image, -image - 1, -image - 2, 4, 5];
  const { cache } = having([withImage(1000)]);
  equal(found(cache, [...withImage(1000), 9]), 8);
  equal(found(cache, [...withImage(2000), 9]), 3);
});

Deno.test("PrefixCache stops where a sequence has let go of a block", () => {
  const blocks = new FakeBlocks();
  const cache = new PrefixCache(SIZE);
  const keys = range(0, 12);
  cache.insert(keys, (index) => index === 1 ? undefined : blocks.of(keys)(index));
  equal(cache.size, 1);
  equal(found(cache, keys), 4);
});

Deno.test("PrefixCache tells what it alone holds, whoever holds what meanwhile", () => {
  // Of each block, who else has a share: the sequence that computed it, and those that found it.
  const others = new Map<KvBlock, number>();
  const lend = (block: KvBlock, change: number) =>
    others.set(block, (others.get(block) ?? 0) + change);
  const prompt = fc.array(fc.nat(2), { minLength: 1, maxLength: 14 });
  const action = fc.record({ type: fc.constantFrom("insert", "find", "end", "evict"), prompt });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const [cache, blocks] = [new PrefixCache(SIZE), new Set<KvBlock>()];
      const sequences: KvBlock[][] = [];
      for (const { type, prompt } of actions) {
        if (type === "insert") {
          const held: KvBlock[] = [];
          cache.insert(prompt, () => {
            const block: KvBlock = {
              get ownBytes() {
                return others.get(block) ? 0 : 10;
              },
              [Symbol.dispose]: () => ok(blocks.delete(block)),
            };
            blocks.add(block);
            held.push(block);
            lend(block, 1);
            return block;
          });
          sequences.push(held);
        } else if (type === "find") {
          const held = [...cache.lookup(prompt, prompt.length).blocks];
          held.forEach((block) => lend(block, 1));
          sequences.push(held);
        } else if (type === "end") sequences.shift()?.forEach((block) => lend(block, -1));
        else cache.evict();
        const sum = [...blocks].reduce((sum, block) => sum + block.ownBytes, 0);
        equal(cache.ownBytes, sum);
      }
    }),
    { numRuns: 300 },
  );
});

/** Reads of keys while `use` runs on a cache of `count` prompts that begin with the same key. */
function keysRead(count: number, use: (cache: PrefixCache, prompt: readonly number[]) => void) {
  let reads = 0;
  const read = {
    get: (keys: number[], name: string | symbol) => (reads++, Reflect.get(keys, name)),
  };
  const cache = new PrefixCache(SIZE);
  for (let i = 0; i < count; i++) {
    cache.insert([0, i, 1, 2], () => ({ ownBytes: 10, [Symbol.dispose]: () => {} }));
  }
  reads = 0;
  use(cache, new Proxy([0, count / 2, 1, 2, 3], read));
  return reads;
}

Deno.test("PrefixCache looks at few of the prompts that begin alike", () => {
  const lookup = (cache: PrefixCache, prompt: readonly number[]) => {
    equal(cache.lookup(prompt, 4).positions, 4);
  };
  const [few, many] = [keysRead(64, lookup), keysRead(4096, lookup)];
  ok(many < 3 * few, `${few} keys read among 64, ${many} among 4096`);
});

Deno.test("PrefixCache asks only those blocks for their bytes that others may have had", () => {
  const cache = new PrefixCache(SIZE);
  let asked = 0;
  const block = () => ({
    get ownBytes() {
      asked++;
      return 10;
    },
    [Symbol.dispose]: () => {},
  });
  for (let i = 0; i < 100; i++) cache.insert([i, 0, 0, 0], block);
  equal(cache.ownBytes, 1000);
  asked = 0;
  equal(cache.ownBytes, 1000);
  cache.lookup([7, 0, 0, 0], 4);
  cache.evict();
  equal(cache.ownBytes, 990);
  equal(asked, 1);
});

Deno.test("PrefixCache finds the longest common beginning, whatever went before", () => {
  const keys = fc.array(fc.nat(2), { minLength: 1, maxLength: 14 });
  fc.assert(
    fc.property(
      fc.array(keys, { maxLength: 12 }),
      keys,
      fc.nat(30),
      (prompts, query, evictions) => {
        const { cache, blocks } = having(prompts);
        const longest = Math.max(0, ...prompts.map((prompt) => commonPrefixLength(prompt, query)));
        const hit = cache.lookup(query, query.length);
        equal(hit.positions, longest);
        const contents = hit.blocks.flatMap((block) => [
          ...(block as unknown as { keys: number[] }).keys,
        ]);
        deepEqual(contents.slice(0, longest), query.slice(0, longest));
        for (let i = 0; i < evictions; i++) cache.evict();
        ok(cache.lookup(query, query.length).positions <= longest);
        equal(blocks.held, cache.size);
        equal(cache.ownBytes, cache.size * 10);
      },
    ),
  );
});

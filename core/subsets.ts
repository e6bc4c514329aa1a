/** Most entries of the table by which a choice is made; beyond it those are taken that hold most. */
export const SUBSET_CELLS_MAX = 16_000_000;

/** Most of a need that the table's entries can count. */
const NEEDED_MAX = 65_534;

/** An item that a choice may take: what it adds to the need, and what it is worth. */
export interface Item {
  readonly capacity: number;
  /** What counts first, second and third; sums of more are better. */
  readonly keys: readonly [number, number, number];
}

/** What to choose. */
export interface Choice {
  readonly count: number;
  /** What the chosen have to hold together; a whole number. */
  readonly needed: number;
}

/**
 * The indices of the items that together are worth the most among all choices of so many that hold
 * what is needed; undefined without one. Exact: the best regardless of need where that holds
 * enough, else by dynamic programming over count and need (up to `SUBSET_CELLS_MAX`). Of equals
 * the earlier items.
 */
export function bestSubset(items: readonly Item[], choice: Choice): number[] | undefined {
  const { count, needed } = choice;
  if (count > items.length || mostHeld(items, count) < needed) return undefined;
  const best = byWorth(items).slice(0, count);
  const held = best.reduce((sum, index) => sum + (items[index] as Item).capacity, 0);
  const chosen = held >= needed
    ? best
    : isSmall(items, choice)
    ? knapsack(items, choice)
    : byCapacity(items).slice(0, count);
  return chosen.sort((a, b) => a - b);
}

function isSmall({ length }: readonly Item[], { count, needed }: Choice): boolean {
  return needed <= NEEDED_MAX && length * (count + 1) * (needed + 1) <= SUBSET_CELLS_MAX;
}

/** All indices, the item that holds the most first. */
export function byCapacity(items: readonly Pick<Item, "capacity">[]): number[] {
  const capacity = (index: number) => (items[index] as Item).capacity;
  return [...items.keys()].sort((a, b) => capacity(b) - capacity(a) || a - b);
}

/** The most that so many items hold. */
export function mostHeld(items: readonly Pick<Item, "capacity">[], count: number): number {
  const capacities = items.map(({ capacity }) => capacity).sort((a, b) => b - a);
  return capacities.slice(0, count).reduce((sum, capacity) => sum + capacity, 0);
}

/** All indices, the item that is worth the most first. */
export function byWorth(items: readonly Pick<Item, "keys">[]): number[] {
  const keys = (index: number) => (items[index] as Item).keys;
  return [...items.keys()].sort((a, b) => {
    const [left, right] = [keys(a), keys(b)];
    return right[0] - left[0] || right[1] - left[1] || right[2] - left[2] || a - b;
  });
}

/** Of a choice that exists. */
function knapsack(items: readonly Item[], { count, needed }: Choice): number[] {
  const width = needed + 1;
  const cells = (count + 1) * width;
  const sums = [0, 1, 2].map(() => new Float64Array(cells).fill(-Infinity));
  const [first, second, third] = sums as [Float64Array, Float64Array, Float64Array];
  first[0] = second[0] = third[0] = 0;
  // For each item and cell: 0 when not taken, else 1 plus what was held before.
  const taken = items.map(() => new Uint16Array(cells));
  for (const [index, { capacity, keys: [x, y, z] }] of items.entries()) {
    const mark = taken[index] as Uint16Array;
    for (let chosen = Math.min(index, count - 1); chosen >= 0; chosen--) {
      for (let held = needed; held >= 0; held--) {
        const from = chosen * width + held;
        if (first[from] === -Infinity) continue;
        const to = (chosen + 1) * width + Math.min(needed, held + capacity);
        const [a, b, c] = [
          first[from] as number + x,
          second[from] as number + y,
          third[from] as number + z,
        ];
        const [p, q] = [first[to] as number, second[to] as number];
        const isBetter = a !== p ? a > p : b !== q ? b > q : c > (third[to] as number);
        if (!isBetter) continue;
        [first[to], second[to], third[to]] = [a, b, c];
        mark[to] = held + 1;
      }
    }
  }
  const chosen: number[] = [];
  let held = needed;
  for (let index = items.length - 1; chosen.length < count; index--) {
    const mark = taken[index]?.[(count - chosen.length) * width + held] as number;
    if (mark === 0) continue;
    chosen.push(index);
    held = mark - 1;
  }
  return chosen;
}

/**
 * Largest JavaScript heap of a runner in MiB, tokenizer included; weights lie outside. V8's own limit
 * is a share of the machine's memory, and takes half a minute to give up near it.
 */
const HEAP_MIB_MAX = 1_024;

/**
 * V8's flags for a runner. The first takes effect when something goes wrong; the others keep what is
 * garbage by then out of memory: the tokenizer of a folder leaves 30 MB, and a step leaves little.
 */
export const RUNNER_V8_FLAGS: readonly string[] = [
  `--max-old-space-size=${HEAP_MIB_MAX}`,
  "--max-semi-space-size=2",
  "--heap-growing-percent=20",
];

/**
 * V8's flags for a node; they cannot be set once it runs, so `deno.json` has them, too. Of 16 MiB
 * each, its default, the halves for new objects fill up under load and are never given back.
 */
export const NODE_V8_FLAGS: readonly string[] = ["--max-semi-space-size=4"];

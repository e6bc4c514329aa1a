/** Attention over a few made-up tokens, in a step scope: `deno run -A ffi/example.ts`. */
import {
  ensureSetup,
  liveArrays,
  random,
  rmsNorm,
  rope,
  scaledDotProductAttention,
  Scope,
  type Tensor,
} from "./mod.ts";

/** Queries, keys and values are all x `[B, H, L, D]` itself. */
function attendToSelf(x: Tensor): Tensor {
  const turned = rope(x, { dims: 64 });
  return scaledDotProductAttention(turned, turned, x, { scale: 64 ** -0.5, mask: "causal" });
}

function step(seed: number): Tensor {
  using scope = new Scope();
  const x = random.normal([1, 4, 8, 64], { key: random.key(seed) });
  const attended = attendToSelf(rmsNorm(x, undefined, 1e-5));
  return scope.keep(attended.square().mean(-1)); // All else is freed here.
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

await ensureSetup({ onProgress: say });
using energy = step(42); // [1, 4, 8]: a number for each head and token.
say(`Energies: ${energy.toNumbers().map((each) => each.toFixed(3)).join(" ")}`);
say(`Native arrays alive: ${liveArrays()}`);

import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { nativeLayout } from "../../ffi/layout.ts";
import { close, scoped } from "./support.ts";

const FORWARDS = Deno.build.os === "linux";

Deno.test({
  name: "the product of two matrices is computed by OpenBLAS, not by the wheel's reference BLAS",
  ignore: !FORWARDS, // Elsewhere MLX brings a fast one.
  fn() {
    const { libraryPath } = nativeLayout();
    const binary = Deno.readFileSync(libraryPath);
    const text = new TextDecoder("latin1").decode(binary);
    assert.ok(text.includes("scipy_cblas_sgemm") && text.includes("cblas_dgemm"));
    using _scope = new mx.Scope();
    const x = mx.random.normal([256, 256], { key: mx.random.key(1) });
    const y = x.matmul(x);
    assert.ok(Number.isFinite(y.sum().item()));
    // A library maps into the process when it is loaded.
    const maps = Deno.readTextFileSync("/proc/self/maps");
    assert.ok(maps.includes("libscipy_openblas"));
  },
});

scoped("large products are right", () => {
  const x = mx.fromArray(Array.from({ length: 300 * 200 }, (_, i) => i % 7 - 3), [300, 200]);
  const squared = x.matmul(x.transpose());
  const [first] = squared.slice([17, 251], [18, 252]).toNumbers();
  const row = (i: number) => Array.from({ length: 200 }, (_, k) => (i * 200 + k) % 7 - 3);
  const [a, b] = [row(17), row(251)];
  close([first as number], [a.reduce((sum, value, k) => sum + value * (b[k] as number), 0)]);
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { llama3Wavelengths, RopeScaling } from "../../../engines/models/rope.ts";

Deno.test("RopeScaling takes both spellings of its type, and none", () => {
  equal(RopeScaling.parse(null).rope_type, "default");
  equal(RopeScaling.parse({}).rope_type, "default");
  deepEqual(RopeScaling.parse({ type: "linear", factor: 2 }), { rope_type: "linear", factor: 2 });
  equal(RopeScaling.safeParse({ rope_type: "yarn", factor: 2 }).success, false);
});

Deno.test("llama3Wavelengths() keeps short wavelengths and stretches long ones", () => {
  const scaling = RopeScaling.parse({
    rope_type: "llama3",
    factor: 8,
    original_max_position_embeddings: 64,
  });
  const plain = llama3Wavelengths(16, 10_000, RopeScaling.parse(null));
  const scaled = llama3Wavelengths(16, 10_000, scaling);
  const ratios = scaled.map((wavelength, i) => wavelength / (plain[i] ?? NaN));
  equal(ratios[0], 1);
  equal(ratios.at(-1), 8);
  ok(ratios.every((ratio, i) => ratio >= (ratios[i - 1] ?? 1)));
  ok(ratios.some((ratio) => ratio > 1 && ratio < 8));
});

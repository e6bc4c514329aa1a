import assert from "node:assert/strict";
import { argumentOf, DECLARATIONS, KINDS, symbolTable } from "../../ffi/declarations.ts";
import { renderHeader } from "../../ffi/generate_header.ts";
import { SOURCES, sourceText } from "../../ffi/layout.ts";

Deno.test("shim.h is what the declarations say", () => {
  const hint = "run: deno run -A ffi/generate_header.ts";
  assert.equal(sourceText("shim.h"), renderHeader(), hint);
});

Deno.test("every declared function is defined in the shim, and the other way round", () => {
  const text = SOURCES.map(sourceText).join("\n");
  const macros = /^(?:UNARY|BINARY|REDUCE|ARG_REDUCE|ALONG|NTH_ALONG)\((\w+),/gm;
  const bodies = /^int32_t (shim_\w+)\(/gm;
  const defined = [
    ...[...text.matchAll(macros)].map(([, name]) => `shim_${name}`),
    ...[...text.matchAll(bodies)].map(([, name]) => name),
  ];
  assert.deepEqual(defined.sort(), Object.keys(DECLARATIONS).sort());
});

Deno.test("the symbol table has the FFI type of every argument, and no 64-bit integers", () => {
  const { shim_rms_norm, shim_sum, shim_arange } = symbolTable();
  assert.deepEqual(shim_rms_norm.parameters, ["i32", "i32", "f32"]);
  assert.deepEqual(shim_sum.parameters, ["i32", "buffer", "i32", "bool"]);
  assert.deepEqual(shim_arange.parameters, ["f64", "f64", "f64", "i32"]);
  assert.equal(shim_arange.result, "i32");
});

Deno.test("every argument has a known kind and a name of its own", () => {
  for (const [name, entries] of Object.entries(DECLARATIONS)) {
    const argumentsOf = entries.map(argumentOf);
    for (const { kind } of argumentsOf) assert.ok(kind in KINDS, name);
    assert.equal(new Set(argumentsOf.map(({ name }) => name)).size, entries.length, name);
  }
});

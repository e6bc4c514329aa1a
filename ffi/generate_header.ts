/**
 * Writes `shim.h` from the declaration table: `deno run --allow-write ffi/generate_header.ts`.
 *
 * @module
 */
import { argumentOf, DECLARATIONS, KINDS } from "./declarations.ts";

const PREAMBLE = `// Generated from declarations.ts by generate_header.ts; do not edit.
#pragma once
#include <cstdint>

extern "C" {
`;

/** The text of `shim.h`, one prototype for each row of the declaration table. */
export function renderHeader(): string {
  const prototypes = Object.entries(DECLARATIONS).map(([name, entries]) =>
    prototype(name, entries)
  );
  return `${PREAMBLE}${prototypes.join("\n")}\n}\n`;
}

function prototype(name: string, entries: readonly string[]): string {
  const parameters = entries.map((entry) => {
    const { kind, name } = argumentOf(entry);
    return `${KINDS[kind].c} ${name}`;
  });
  const line = `int32_t ${name}(${parameters.join(", ")});`;
  return line.length <= 100 ? line : `int32_t ${name}(\n    ${parameters.join(",\n    ")});`;
}

if (import.meta.main) {
  Deno.writeTextFileSync(new URL("shim.h", import.meta.url), renderHeader());
}

import { deepEqual, match, ok } from "node:assert/strict";
import { coreLines, type CoreReport, coreSections, isWithin } from "../../bench/core_report.ts";
import { placementMs, SHAPES } from "../../bench/core/placement.ts";

const rows = [
  { what: "placement, mesh", value: 12.34, unit: "ms", isCost: true, bar: 50 },
  { what: "events applied", value: 9_000, unit: "events/s", isCost: false, bar: 10_000 },
];

Deno.test("a cost is within its bar below it, a rate above it", () => {
  deepEqual(rows.map(isWithin), [true, false]);
});

Deno.test("the control plane's figures come as lines and as a section", () => {
  deepEqual(coreLines({ rows }), [
    "placement, mesh: 12.3 ms (≤ 50 ms: yes)",
    "events applied: 9000 events/s (≥ 10000 events/s: no)",
  ]);
  const report: CoreReport = {
    ...{
      schemaVersion: 1,
      command: "deno task bench:core",
      startedAt: "2026-01-02T03:04:05Z",
      rows,
    },
    tool: { name: "exo", version: "0", commit: "abc", hasChanges: true },
    machine: { os: "", arch: "", cpu: "Some CPU", cores: 2, memoryBytes: 1, deno: "2" },
  };
  const page = coreSections(report).join("\n");
  match(page, /Some CPU, 2 cores\. 2026-01-02, exo abc with changes\./);
  match(page, /\| placement, mesh \| 12\.3 ms \| ≤ 50 ms \| yes \|/);
});

Deno.test("every shape of cluster can be measured", () => {
  for (const shape of SHAPES) ok(placementMs(shape, 9) > 0, shape);
});

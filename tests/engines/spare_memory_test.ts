import { equal } from "node:assert/strict";
import { SpareMemory } from "../../engines/spare_memory.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

const nothing = () => undefined;

Deno.test("SpareMemory leaves a share of the machine's memory to others", () => {
  const spare = (total: number, available: number) =>
    new SpareMemory({ now: () => 0, system: () => ({ total, available }), readFile: nothing })
      .bytes();
  equal(spare(10 * GIB, 5 * GIB), 4.5 * GIB);
  equal(spare(100 * GIB, 5 * GIB), 4 * GIB, "a gibibyte at most");
  equal(spare(GIB, 512 * MIB), 448 * MIB, "64 MiB at least");
  equal(spare(GIB, 32 * MIB), -32 * MIB, "short of the reserve");
});

Deno.test("SpareMemory heeds the control group", () => {
  const files: Record<string, string> = {
    "/proc/self/cgroup": "0::/",
    "/sys/fs/cgroup/memory.max": `${GIB}`,
    "/sys/fs/cgroup/memory.current": `${512 * MIB}`,
  };
  const spare = new SpareMemory({
    now: () => 0,
    system: () => ({ total: 100 * GIB, available: 50 * GIB }),
    readFile: (path) => files[path],
  });
  equal(spare.bytes(), 512 * MIB - 64 * MIB);
});

Deno.test("SpareMemory looks again after a moment, and not before", () => {
  let [ms, available] = [0, 5 * GIB];
  const spare = new SpareMemory({
    now: () => ms,
    system: () => ({ total: 10 * GIB, available }),
    readFile: nothing,
  });
  const before = spare.bytes();
  available = GIB;
  ms = 249;
  equal(spare.bytes(), before);
  ms = 250;
  equal(spare.bytes(), 0.5 * GIB);
});

import { deepEqual, equal } from "node:assert/strict";
import { type EnergyZone, wattsBetween, zonesThatCount } from "../../../node/info/rapl.ts";

const zone = (name: string): EnergyZone => ({
  name,
  energyFile: `/${name}`,
  rangeMicrojoules: 1_000_000,
});

Deno.test("each joule is counted once: of the machine, or of all its processors", () => {
  const names = (...zones: string[]) => zonesThatCount(zones.map(zone)).map(({ name }) => name);
  deepEqual(names("package-0", "package-1", "dram"), ["package-0", "package-1"]);
  deepEqual(names("package-0", "psys"), ["psys"]);
  deepEqual(names("mmio"), []);
});

Deno.test("power is energy by time, over all zones, though counters begin anew", () => {
  const zones = [zone("package-0"), zone("package-1")];
  const between = (before: number[], after: number[], elapsedMs = 5_000) =>
    wattsBetween(zones, { before, after, elapsedMs });
  equal(between([0, 0], [50_000_000, 25_000_000]), 15);
  equal(between([900_000, 0], [100_000, 0], 1_000), 0.2);
  equal(between([0, 0], [1, 1], 0), undefined, "no time has passed");
  equal(between([0], [1, 1]), undefined, "one could not be read");
  equal(between([0, 0], [1]), undefined);
  equal(wattsBetween([], { before: [], after: [], elapsedMs: 1 }), undefined);
});

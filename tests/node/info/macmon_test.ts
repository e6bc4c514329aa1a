import { deepEqual, equal } from "node:assert/strict";
import { parseMacmon } from "../../../node/info/macmon.ts";
import { golden } from "../../support/fake_machine.ts";

Deno.test("a line of macmon is understood in the shape before 0.8", async () => {
  deepEqual(parseMacmon(await golden("macmon_0_7.json")), {
    cpuUsage: 0.037,
    performanceCoreUsage: 0.015,
    efficiencyCoreUsage: 0.083,
    gpuUsage: 0.021,
    cpuTemperatureCelsius: 43.7,
    gpuTemperatureCelsius: 37,
    powerWatts: 5.9,
  });
});

Deno.test("and in the shape since then, where a Mac without a power sensor says 0", async () => {
  deepEqual(parseMacmon(await golden("macmon_0_8.json")), {
    cpuUsage: 0.092,
    performanceCoreUsage: 0.04,
    efficiencyCoreUsage: 0.18,
    gpuUsage: 0.09,
    cpuTemperatureCelsius: 43.7,
    gpuTemperatureCelsius: 37,
    powerWatts: undefined,
  });
});

Deno.test("what is no sample is none, and shares stay between 0 and 1", () => {
  for (const line of ["", "{", "[]", "{}", `{"pcpu_usage":[1]}`, `{"pcpu_active_ratio":"x"}`]) {
    equal(parseMacmon(line), undefined, line);
  }
  const odd = parseMacmon(`{"pcpu_usage":[1,1.2],"ecpu_usage":[1,-0.1]}`);
  deepEqual([odd?.performanceCoreUsage, odd?.efficiencyCoreUsage], [1, 0]);
});

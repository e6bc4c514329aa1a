import { deepEqual } from "node:assert/strict";
import { hardwareOf, versionOf } from "../../../node/info/mac_identity.ts";
import { golden } from "../../support/fake_machine.ts";

Deno.test("model, chip, version and build are read of Apple's tools", async () => {
  const hardware = { machineModel: "Mac Studio", chipId: "Apple M3 Ultra" };
  deepEqual(hardwareOf(await golden("mac_hardware.txt")), hardware);
  const version = { osVersion: "macOS 26.2", osBuildVersion: "25C56" };
  deepEqual(versionOf(await golden("mac_sw_vers.txt")), version);
});

Deno.test("an older Mac has a processor, and what is not said is left out", () => {
  deepEqual(hardwareOf("  Processor Name: 8-Core Intel Xeon W\n  Model Name:\n"), {
    chipId: "8-Core Intel Xeon W",
  });
  deepEqual(hardwareOf(""), {});
  deepEqual(versionOf("no such thing"), {});
});

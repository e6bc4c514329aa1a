import { deepEqual, equal, throws } from "node:assert/strict";
import { isDisaggregated, nodeEnvironment, showsImageModels } from "../../cli/environment.ts";
import { AppError } from "../../core/errors.ts";
import { MIB } from "../../core/units.ts";

Deno.test("variables that are not set or empty say nothing", () => {
  const nothing = { loadTimeoutMs: undefined, memoryBytes: undefined, hasSideChannels: false };
  deepEqual(nodeEnvironment({}), nothing);
  deepEqual(nodeEnvironment({ EXO_MODEL_LOAD_TIMEOUT: "", OVERRIDE_MEMORY_MB: "" }), nothing);
});

Deno.test("variables are read in their units", () => {
  const env = { EXO_MODEL_LOAD_TIMEOUT: "1.5", OVERRIDE_MEMORY_MB: "512" };
  const read = { loadTimeoutMs: 1_500, memoryBytes: 512 * MIB, hasSideChannels: false };
  deepEqual(nodeEnvironment(env), read);
});

Deno.test("EXO_JACCL_SIDE_CHANNEL is off unless it is switched on", () => {
  equal(nodeEnvironment({ EXO_JACCL_SIDE_CHANNEL: "true" }).hasSideChannels, true);
  equal(nodeEnvironment({ EXO_JACCL_SIDE_CHANNEL: "0" }).hasSideChannels, false);
  throws(() => nodeEnvironment({ EXO_JACCL_SIDE_CHANNEL: "pipes" }), {
    code: "usage",
    message: 'Cannot use EXO_JACCL_SIDE_CHANNEL="pipes": true or false needed',
  });
});

Deno.test("OVERRIDE_MEMORY_MB that is no whole number of MiB is told, with what is needed", () => {
  for (const OVERRIDE_MEMORY_MB of ["lots", "-5", "0", "1.5", "4GB", "Infinity", "1e12", " "]) {
    throws(() => nodeEnvironment({ OVERRIDE_MEMORY_MB }), (error: AppError) => {
      return error.code === "usage" && error.message.includes(`"${OVERRIDE_MEMORY_MB}": a whole`) &&
        error.hint !== undefined;
    }, OVERRIDE_MEMORY_MB);
  }
});

Deno.test("EXO_TRACING_ENABLED that says neither yes nor no is told", () => {
  for (const EXO_TRACING_ENABLED of ["", "true", "false", "1", "0"]) {
    nodeEnvironment({ EXO_TRACING_ENABLED });
  }
  throws(() => nodeEnvironment({ EXO_TRACING_ENABLED: "yes" }), {
    code: "usage",
    message: 'Cannot use EXO_TRACING_ENABLED="yes": true or false needed',
  });
});

Deno.test("EXO_ENABLE_IMAGE_MODELS lists image models; what says neither yes nor no is told", () => {
  for (const EXO_ENABLE_IMAGE_MODELS of ["", "false", "0"]) {
    equal(showsImageModels({ EXO_ENABLE_IMAGE_MODELS }), false);
  }
  for (const EXO_ENABLE_IMAGE_MODELS of ["true", "1"]) {
    equal(showsImageModels({ EXO_ENABLE_IMAGE_MODELS }), true);
  }
  equal(showsImageModels({}), false);
  throws(() => showsImageModels({ EXO_ENABLE_IMAGE_MODELS: "yes" }), {
    code: "usage",
    message: 'Cannot use EXO_ENABLE_IMAGE_MODELS="yes": true or false needed',
  });
});

Deno.test("ENABLE_DISAGGREGATION switches links on; what says neither yes nor no is told", () => {
  equal(isDisaggregated({}), false);
  equal(isDisaggregated({ ENABLE_DISAGGREGATION: "true" }), true);
  throws(() => isDisaggregated({ ENABLE_DISAGGREGATION: "maybe" }), {
    code: "usage",
    message: 'Cannot use ENABLE_DISAGGREGATION="maybe": true or false needed',
    hint: "set ENABLE_DISAGGREGATION=true to link instances, or unset it",
  });
});

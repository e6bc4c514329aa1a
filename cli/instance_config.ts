import { z } from "zod";
import { InstanceConfig } from "../core/instance.ts";
import { SAMPLING_FLAGS, type SamplingArgs, SamplingJson, samplingOf } from "./sampling_flags.ts";

const { shape } = InstanceConfig;
const group = "What requests may use:";
const defaults = "Sampling, of requests that do not say:";

type Flags = typeof SAMPLING_FLAGS;

/** The same flags under another heading. */
const SAMPLING = Object.fromEntries(
  Object.entries(SAMPLING_FLAGS).map(([key, flag]) => [key, flag.meta({ group: defaults })]),
) as Flags;

/** What an instance is told beyond its placement, as flags. */
export const CONFIG_FLAGS = {
  context: shape.contextTokens.meta({ group, value: "TOKENS" })
    .describe("Longest prompt plus answer, in tokens; memory is kept for it"),
  kvBits: z.enum(["8", "4"]).optional().meta({ group })
    .describe("Bits of a cached key or value: fewer take less memory, and cost some exactness"),
  maxConcurrentRequests: shape.maxConcurrentRequests.meta({ group })
    .describe("Requests that are answered at once; further ones wait"),
  prefillChunk: shape.prefillChunkTokens.meta({ group, value: "TOKENS" })
    .describe("Most tokens of a prompt that are read in one step"),
  ...SAMPLING,
};

/** What the flags are read as. */
export type ConfigArgs = z.output<z.ZodObject<typeof CONFIG_FLAGS>>;

/** The flags as a configuration; undefined when none is given. */
export function configOf(args: ConfigArgs): InstanceConfig | undefined {
  const config: { [K in keyof InstanceConfig]: InstanceConfig[K] | undefined } = {
    contextTokens: args.context,
    kvBits: args.kvBits === undefined ? undefined : args.kvBits === "8" ? 8 : 4,
    maxConcurrentRequests: args.maxConcurrentRequests,
    prefillChunkTokens: args.prefillChunk,
    samplingDefaults: samplingOf(args as SamplingArgs),
  };
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

const count = z.number().int();

/** A configuration as the command line shows it; a field that is absent is left to exo. */
export const ConfigJson: z.ZodType<InstanceConfig> = z.strictObject({
  contextTokens: count.optional().describe("Longest prompt plus answer"),
  kvBits: z.literal([8, 4]).optional().describe("Bits of a cached key or value"),
  maxConcurrentRequests: count.optional().describe("Requests that are answered at once"),
  prefillChunkTokens: count.optional().describe("Most tokens of a prompt in one step"),
  samplingDefaults: SamplingJson.optional()
    .describe("How tokens are drawn for requests that do not say"),
});

/** The fields of a configuration in words, such as `context 4096, KV of 8 bits`. */
export function configWords(config: InstanceConfig): string {
  const { contextTokens, kvBits, maxConcurrentRequests, prefillChunkTokens } = config;
  return [
    contextTokens === undefined ? [] : `context ${contextTokens} tokens`,
    kvBits === undefined ? [] : `KV of ${kvBits} bits`,
    maxConcurrentRequests === undefined ? [] : `${maxConcurrentRequests} at once`,
    prefillChunkTokens === undefined ? [] : `${prefillChunkTokens} prompt tokens a step`,
  ].flat().join(", ");
}

/** The sampling defaults in words, such as `temperature 0, top-p 0.9`. */
export function samplingWords(config: InstanceConfig): string {
  return Object.entries(config.samplingDefaults ?? {})
    .map(([key, value]) => `${kebab(key)} ${value}`).join(", ");
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

import { z } from "zod";
import { SamplingParams } from "../core/sampling.ts";

const { shape } = SamplingParams;
const group = "Sampling:";

/** How tokens are drawn, as flags; one that is absent leaves the choice to who comes next in line. */
export const SAMPLING_FLAGS = {
  temperature: shape.temperature.unwrap().max(2).optional()
    .describe("0 takes the most likely token, higher values vary more").meta({ group }),
  topP: z.number().min(0).max(1).optional()
    .describe("Share of the probability that tokens are drawn from").meta({ group }),
  topK: shape.topK.describe("Most likely tokens that are drawn from; 0: all").meta({ group }),
  minP: shape.minP.meta({ group })
    .describe("Least probability of a token, as a share of the most likely one's"),
  repetitionPenalty: shape.repetitionPenalty.meta({ group })
    .describe("Over 1, makes tokens of the last part of the text less likely"),
  repetitionContext: shape.repetitionContextTokens.meta({ group, value: "TOKENS" })
    .describe("How much of the text that is; prompt and answer count"),
  presencePenalty: shape.presencePenalty.meta({ group })
    .describe("Over 0, makes tokens of the answer less likely to come again"),
  frequencyPenalty: shape.frequencyPenalty.meta({ group })
    .describe("Over 0, makes them the less likely the more often they came"),
};

/** The same fields as `--json` prints them, described by their flags. */
export const SamplingJson: z.ZodType<SamplingParams> = z.strictObject(Object.fromEntries(
  Object.entries(shape).map(([key, field]) => {
    const flag = SAMPLING_FLAGS[key.replace(/Tokens$/, "") as keyof typeof SAMPLING_FLAGS];
    return [key, field.describe(flag.description ?? "")];
  }),
)) as z.ZodType<SamplingParams>;

/** What the flags are read as. */
export type SamplingArgs = z.output<z.ZodObject<typeof SAMPLING_FLAGS>>;

/** The flags as the rest of the house knows them; undefined when none is given. */
export function samplingOf(args: SamplingArgs): SamplingParams | undefined {
  const { temperature, topP, topK, minP, repetitionPenalty, repetitionContext } = args;
  const { presencePenalty, frequencyPenalty } = args;
  const params: { [K in keyof SamplingParams]: SamplingParams[K] | undefined } = {
    temperature,
    // A share of 0 keeps the most likely token alone.
    topP: topP === 0 ? undefined : topP,
    topK: topP === 0 ? 1 : topK,
    minP,
    repetitionPenalty,
    repetitionContextTokens: repetitionContext,
    presencePenalty,
    frequencyPenalty,
  };
  const given = Object.entries(params).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

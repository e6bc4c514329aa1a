import { z } from "zod";

/** The highest port that there is. */
export const PORT_MAX = 65_535;

/** Lower ports need rights that a rank has not. */
export const RANGE_PORT_MIN = 1_024;

const port = z.number().int().min(RANGE_PORT_MIN).max(PORT_MAX);

/** Ports from one to another, both with it. */
export const PortRange = z.object({ from: port, to: port })
  .refine(({ from, to }) => from <= to, "the lower port first");
export type PortRange = z.infer<typeof PortRange>;

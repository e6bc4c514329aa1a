import { z } from "zod";
import { InstanceId, InstanceLinkId } from "./ids.ts";

/** Most instances at an end of a link. */
export const LINK_INSTANCES_MAX = 256;

const ends = z.array(InstanceId).min(1).max(LINK_INSTANCES_MAX);

/** Instances that prefill for instances that decode; no list has an id twice. */
export const InstanceLink = z.object({
  linkId: InstanceLinkId,
  prefillInstances: ends,
  decodeInstances: ends,
});
export type InstanceLink = z.infer<typeof InstanceLink>;

/** How a node asks another to read a prompt for it. */
import { z } from "zod";
import { InstanceId } from "../core/ids.ts";
import { PrefillRequest } from "../core/prefill.ts";

/** The question, and the answer: a stream of `net/bulk.ts` that is offered to whoever asked. */
export const PREFILL = {
  protocol: "/exo/prefill/1",
  request: z.object({ instanceId: InstanceId, request: PrefillRequest }),
  reply: z.object({ offerId: z.string().max(64) }),
};

import { z } from "zod";

/** Whether a node has a model's files. Bytes and speed are latest-value and never logged. */
export const DownloadStatus = z.discriminatedUnion("type", [
  z.object({ type: z.literal("DownloadPending") }),
  z.object({ type: z.literal("DownloadOngoing") }),
  z.object({
    type: z.literal("DownloadCompleted"),
    totalBytes: z.number().int().min(0),
    /** Referenced where the user keeps it: never written or deleted by us. */
    readOnly: z.boolean(),
  }),
  z.object({ type: z.literal("DownloadFailed"), errorMessage: z.string() }),
]);
export type DownloadStatus = z.infer<typeof DownloadStatus>;

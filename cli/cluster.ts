import { z } from "zod";
import { newClusterSecret, writeClusterSecret } from "./cluster_secret_file.ts";
import { defineCommand, defineGroup } from "./command.ts";

const create = defineCommand({
  name: "new",
  summary: "Make a secret that keeps other machines out of a cluster",
  description: "Every node is started with the same one, exo serve --cluster-secret FILE, and " +
    "machines without it reach none of them",
  example: ["cluster secret new --out cluster-secret", "cluster secret new"],
  isLocal: true,
  args: z.object({
    out: z.string().min(1).optional()
      .describe("Write it here, readable for its owner alone; an existing file stays as it is")
      .meta({ value: "FILE" }),
  }),
  json: z.strictObject({
    secret: z.string().optional().describe("The secret; absent when it is in a file"),
    file: z.string().optional().describe("Where it is; absent without `--out`"),
  }),
  async run({ args, io, out }) {
    const { out: file } = args;
    if (file === undefined) {
      const secret = newClusterSecret();
      return out.result({ secret }, secret);
    }
    await writeClusterSecret(file, io.cwd);
    const next = `copy it to every node, and start each with: exo serve --cluster-secret ${file}`;
    out.result({ file }, `The secret is in ${file}; ${next}`);
  },
});

/** `exo cluster …`. */
export const cluster = defineGroup({
  name: "cluster",
  summary: "Make what the nodes of a cluster share",
  commands: [
    defineGroup({ name: "secret", summary: "The secret of a cluster", commands: [create] }),
  ],
});

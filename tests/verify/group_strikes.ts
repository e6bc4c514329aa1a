/** How each fault is made to happen, and what mends its cause. */
import { join } from "node:path";
import { LINK_SILENCE_MS } from "../../net/transport.ts";
import type { Cluster } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";
import type { GroupFault } from "./group_faults.ts";

/** How long nobody reads a runner's pipe: not so long that the node is taken for lost. */
const FULL_PIPE_MS = LINK_SILENCE_MS - 1_000;

/** How long a client reads nothing of its answer. */
const SLOW_CLIENT_MS = 3_000;

/** Where the ranks are, and which of them is struck. */
export interface Site {
  readonly cluster: Cluster;
  readonly first: ClusterNode;
  readonly struck: ClusterNode;
  readonly model: string;
  /** The struck node's own copy of the model: a folder. */
  readonly modelPath: string;
  /** Tokens of the longest answer that the engine gives. */
  readonly longAnswerTokens: number;
  /** Whose runner is held in the stage. */
  readonly holder: ClusterNode;
  /** Whether the ranks have their weights in memory. */
  readonly isLoaded: boolean;
}

/** Mends the cause of a fault; what it has broken mends itself. */
export type Repair = () => Promise<void>;

const nothing: Repair = async () => {};

/** Lets a fault happen. */
export async function strike(fault: GroupFault, site: Site): Promise<Repair> {
  return await STRIKES[fault](site);
}

const STRIKES: Readonly<Record<GroupFault, (site: Site) => Promise<Repair>>> = {
  "runner killed": (site) => signalRunners(site, "SIGKILL"),
  "runner stopped": (site) => signalRunners(site, "SIGSTOP"),
  "node killed": async ({ struck }) => {
    await struck.end("SIGKILL");
    return () => struck.start();
  },
  "partition": async ({ cluster, struck }) => {
    const others = cluster.nodes.filter((node) => node !== struck).map(({ index }) => index);
    await cluster.network.cut([struck.index], others);
    return () => cluster.network.heal();
  },
  "full pipe": fullPipe,
  "slow client": slowClient,
  "out of memory": async ({ struck }) => {
    await struck.orders.give("exhaust");
    await eventually("the order is taken", async () => !(await struck.orders.has("exhaust")));
    return nothing;
  },
  "corrupt weights": async (site) => {
    const path = join(site.modelPath, "model.safetensors");
    const whole = await Deno.readFile(path);
    // Another length than the header says, and bytes that are none of the weights'.
    await Deno.writeFile(path, new Uint8Array(64).fill(0xff));
    // Only a successor reads them again: it must say what is wrong, and be tried again.
    if (site.isLoaded) await signalRunners(site, "SIGKILL");
    return () => Deno.writeFile(path, whole);
  },
  "illegal order": async ({ struck }) => {
    await struck.orders.give("illegal");
    await eventually("the order is taken", async () => !(await struck.orders.has("illegal")));
    return nothing;
  },
};

async function signalRunners({ struck }: Site, signal: Deno.Signal): Promise<Repair> {
  for (const pid of await struck.process.runnerPids()) Deno.kill(pid, signal);
  return nothing;
}

/** The node stops for a while: what its runner reports stays in the pipe. */
function fullPipe({ struck: { process } }: Site): Promise<Repair> {
  process.kill("SIGSTOP");
  const goOn = () => process.kill("SIGCONT");
  const timer = setTimeout(goOn, FULL_PIPE_MS);
  return Promise.resolve(() => Promise.resolve(clearTimeout(timer)).then(goOn));
}

/** Asks for an answer that fills what lies between, reads nothing of it, and hangs up. */
async function slowClient({ first, model, longAnswerTokens }: Site): Promise<Repair> {
  const { hostname, port } = new URL(first.client.url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  const body = JSON.stringify({
    ...{ model, stream: true, ignore_eos: true, max_completion_tokens: longAnswerTokens },
    // Each token with others beside it takes some kilobytes.
    ...{ logprobs: true, top_logprobs: 20 },
    messages: [{ role: "user", content: "go on and on" }],
  });
  const head = [
    ...["POST /v1/chat/completions HTTP/1.1", `Host: ${hostname}:${port}`],
    ...["Content-Type: application/json", `Content-Length: ${body.length}`],
  ];
  await connection.write(new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n${body}`));
  const timer = setTimeout(() => connection.close(), SLOW_CLIENT_MS);
  return () =>
    Promise.resolve(clearTimeout(timer)).then(() => {
      try {
        connection.close();
      } catch {
        // The timer was first.
      }
    });
}

/**
 * What clients do with models, instances, meta-instances, links and answers in text, and what all
 * nodes have to know of it soon. Images, downloads and merges are not asked for.
 */
import assert from "node:assert/strict";
import type { ApiClient } from "../../api/client.ts";
import type { StateView, Table, TaggedInstance } from "../../api/client_state.ts";
import { type Cluster, TINY_MODEL } from "../support/cluster.ts";
import { loggedState } from "../support/cluster_state.ts";
import { eventually } from "../support/eventually.ts";
import { deleteLink, replaceLink, setLink } from "../support/instance_links.ts";
import type { Say } from "./tally.ts";
import { AGREEMENT_MS_MAX, ms, threeThatMet } from "./three_nodes.ts";

/** An answer that is under way for long enough to be looked at, and to be left. */
const LONG_ANSWER = { tokens: Array.from({ length: 500 }, () => "x "), stepMs: 20 };
const SHORT_TOKENS = 3;
const READY_SECONDS_MAX = 60;

/** What is looked at here of `GET /state`, beside what clients read. */
interface WholeState extends StateView {
  readonly instanceLinks: Table<unknown>;
  readonly customModelCards: Table<unknown>;
}

/** Does something, whose effect all nodes tell of, in equal states, soon after the answer. */
type Asked = <T>(
  what: string,
  act: Promise<T>,
  isSo: (state: WholeState, result: T) => boolean,
) => Promise<T>;

/** Each of these, asked at each node, where it changes something. */
export async function commandAll(say: Say): Promise<void> {
  await using cluster = await threeThatMet({ engine: LONG_ANSWER });
  for (const { client, index } of cluster.nodes) {
    const asked: Asked = async (what, act, isSo) => {
      const startedAt = performance.now();
      const result = await act;
      const answeredAt = performance.now();
      const isKnown = (state: WholeState) => isSo(state, result);
      await eventually(
        `all nodes know of "${what}" at node ${index}`,
        () => all(cluster, isKnown),
        AGREEMENT_MS_MAX,
      );
      const [answeredMs, knownMs] = [answeredAt - startedAt, performance.now() - answeredAt];
      say(`  ${what} at node ${index}: ${ms(answeredMs)}, known and equal ${ms(knownMs)} later`);
      return result;
    };
    const { id: model } = await asked(
      "add a model",
      client.addModel(TINY_MODEL),
      ({ customModelCards }, { id }) => id in customModelCards,
    );
    const instanceId = await askForInstances(client, model, asked);
    await askForAnswers(client, model, asked);
    await askForMetaInstances(cluster, client, { model, asked });
    await askForLinks(client, { model, instanceId }, asked);
    await asked(
      "delete the instance",
      client.deleteInstance(instanceId),
      ({ instances }) => !(instanceId in instances),
    );
    await asked(
      "remove the model",
      client.removeModel(model),
      ({ customModelCards }) => !(model in customModelCards),
    );
  }
}

/** Whether all nodes are in one state, in which `isSo`. */
async function all({ nodes }: Cluster, isSo: (state: WholeState) => boolean): Promise<boolean> {
  const states = await Promise.all(nodes.map((node) => node.state() as Promise<WholeState>));
  return states.every(isSo) && new Set(states.map(loggedState)).size === 1;
}

/** Resolves with one that is ready. */
async function askForInstances(client: ApiClient, model: string, asked: Asked): Promise<string> {
  const { instanceId } = await asked(
    "place an instance",
    client.placeInstance({ model }),
    ({ instances }, { instanceId }) => instanceId in instances,
  );
  const instance = await client.showInstance(instanceId);
  await asked(
    "delete an instance",
    client.deleteInstance(instanceId),
    ({ instances }) => !(instanceId in instances),
  );
  await asked(
    "create an instance",
    createInstance(client, instance),
    ({ instances }) => instanceId in instances,
  );
  const wait = { timeoutSeconds: READY_SECONDS_MAX };
  for await (const _ of client.awaitInstance({ instanceId }, wait));
  return instanceId;
}

/** Exactly this instance. */
async function createInstance({ url }: ApiClient, instance: TaggedInstance): Promise<void> {
  const reply = await fetch(`${url}/instance`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ instance }),
  });
  const answer = await reply.text();
  assert.ok(reply.ok, answer);
}

async function askForAnswers(client: ApiClient, model: string, asked: Asked): Promise<void> {
  const messages = [{ role: "user" as const, content: "say it" }];
  const hasTask = ({ tasks }: StateView) => Object.keys(tasks).length === 1;
  const hasNone = ({ tasks }: StateView) => Object.keys(tasks).length === 0;
  const answer = client.chat({ model, messages });
  await asked("begin an answer", answer.next(), hasTask);
  await asked("leave it", answer.return(undefined), hasNone);
  const short = async () => {
    const events = await Array.fromAsync(client.chat({ model, messages, maxTokens: SHORT_TOKENS }));
    assert.equal(events.at(-1)?.type, "finish");
  };
  await asked("have a whole answer", short(), hasNone);
}

async function askForMetaInstances(
  cluster: Cluster,
  client: ApiClient,
  { model, asked }: { readonly model: string; readonly asked: Asked },
): Promise<void> {
  const before = new Set(await runnerPids(cluster));
  const { metaInstanceId: id } = await asked(
    "create a meta-instance",
    client.createMetaInstance({ model, maxRetries: 0 }),
    ({ metaInstances }, { metaInstanceId }) => metaInstanceId in metaInstances,
  );
  const isParked = ({ metaInstances }: WholeState) => metaInstances[id]?.phase === "parked";
  await eventually(
    "the meta-instance is ready",
    () => all(cluster, ({ metaInstances }) => metaInstances[id]?.phase === "ready"),
    READY_SECONDS_MAX * 1_000,
  );
  // Its first failure is one too many: only who is parked has something to try again.
  for (const pid of await runnerPids(cluster)) if (!before.has(pid)) Deno.kill(pid, "SIGKILL");
  await eventually("the meta-instance is parked", () => all(cluster, isParked));
  await asked(
    "try a meta-instance again",
    client.retryMetaInstance(id),
    (state) => id in state.metaInstances && !isParked(state),
  );
  await asked(
    "delete the meta-instance",
    client.deleteMetaInstance(id),
    ({ metaInstances, instances }) => !(id in metaInstances) && Object.keys(instances).length === 1,
  );
}

/** Of all nodes. */
async function runnerPids({ nodes }: Cluster): Promise<number[]> {
  return (await Promise.all(nodes.map(({ process }) => process.runnerPids()))).flat();
}

async function askForLinks(
  client: ApiClient,
  { model, instanceId }: { readonly model: string; readonly instanceId: string },
  asked: Asked,
): Promise<void> {
  const { url } = client;
  const { instanceId: other } = await client.placeInstance({ model });
  const ends = [instanceId];
  const linkId = await asked(
    "create a link",
    setLink(url, ends, ends),
    ({ instanceLinks }, id) => id in instanceLinks,
  );
  await asked(
    "replace the link",
    replaceLink(url, linkId, { prefillInstances: [other], decodeInstances: ends }),
    ({ instanceLinks }) => JSON.stringify(instanceLinks[linkId]).includes(other),
  );
  await asked(
    "delete the link",
    deleteLink(url, linkId),
    ({ instanceLinks }) => !(linkId in instanceLinks),
  );
  await client.deleteInstance(other);
}

/**
 * Plants bugs in a copy of `core/`, one at a time, and shows that the simulator finds each.
 *
 *     deno run -A tests/sim/mutants.ts [--seeds 500] [--only NAME] [--update]
 *
 * `--update` rewrites the table of mutants.md.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";

/** Seeds within which a planted bug has to be found. */
export const MUTANT_SEEDS = 500;

const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

const ROOT = new URL("../..", import.meta.url).pathname;
const TABLE = new URL("mutants.md", import.meta.url).pathname;
const COPIED = ["core", "tests/sim", "tests/support/random.ts", "deno.json", "deno.lock"];

/** A bug: what is written in a file, and what somebody could have written instead. */
export interface Mutant {
  readonly name: string;
  /** What the one who wrote it had not thought of. */
  readonly bug: string;
  readonly file: string;
  readonly search: string;
  readonly replace: string;
}

/** The planted bugs. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: "skip-gap-check",
    bug: "events are applied although some before them are missing",
    file: "core/event_buffer.ts",
    search: "  let next = buffer.get(head.idx + 1);\n",
    replace: "  let next = [...buffer.values()].sort((a, b) => a.idx - b.idx)[0];\n",
  },
  {
    name: "foreign-history",
    bug: "an event is applied whatever history it follows",
    file: "core/event_buffer.ts",
    search: "  while (next && isSameEpoch(next.previous, epoch)) {\n",
    replace: "  while (next && (epoch === undefined || next)) {\n",
  },
  {
    name: "foreign-master",
    bug: "events are taken from whoever sends them, of whatever epoch",
    file: "core/member_follower.ts",
    search: "  return from === following.master && compareEpochs(epoch, following.epoch) === 0;\n",
    replace: '  return from !== "" || compareEpochs(epoch, following.epoch) === 0;\n',
  },
  {
    name: "executed-twice",
    bug: "a creation is sent anew to the next master, whatever became of it",
    file: "core/member_commands.ts",
    search: '    isThere ? ids : "lost";\n',
    replace: '    isThere ? ids : "repeat";\n',
  },
  {
    name: "epoch-reused",
    bug: "a master that starts again goes on in the epoch that it had",
    file: "core/member_master.ts",
    search: "  const clock = Math.max(election.clock, newest?.clock ?? 0) + 1;\n",
    replace: "  const clock = Math.max(election.clock, newest?.clock ?? 0, 1);\n",
  },
  {
    name: "intent-not-synced",
    bug: "meta-instances are not synced to the disk",
    file: "core/events.ts",
    search: '  "MetaInstanceCreated",\n  "MetaInstanceDeleted",\n',
    replace: "",
  },
  {
    name: "no-branch",
    bug: "what the losing side was asked for is dropped",
    file: "core/member_log.ts",
    search: "  if (own && !hasStamp(state, { epoch: own, idx })) keepBranch(turn);\n",
    replace: "  if (own && !hasStamp(state, { epoch: own, idx }) && idx < 0) keepBranch(turn);\n",
  },
  {
    name: "merge-forgets-deletions",
    bug: "what the losing side had deleted comes back",
    file: "core/merge.ts",
    search: "(isReplaced || isGone) ? [{ key, stamp }] : [];\n",
    replace: "isReplaced ? [{ key, stamp }] : [];\n",
  },
  {
    name: "no-cascade",
    bug: "runners of a deleted instance stay in the state",
    file: "core/apply_instances.ts",
    search: "    runners: drop(state.runners, ...runnersOf(instance)),\n    stamps:",
    replace: "    stamps:",
  },
  {
    name: "no-backoff",
    bug: "a failed instance is retried at once and for ever",
    file: "core/reconcile_instances.ts",
    search: "  if (attempts < attemptsMax) return retried(",
    replace: "  if (attempts < Infinity) return retried(",
  },
  {
    name: "no-wait",
    bug: "nobody waits before a retry",
    file: "core/reconcile_instances.ts",
    search: "    notBefore: now + retryDelayMs(attempts),\n",
    replace: "    notBefore: now,\n",
  },
  {
    name: "double-booked",
    bug: "memory that is promised to instances which still load is given away again",
    file: "core/memory_fit.ts",
    search: "      free.set(nodeId, left - promisedBytes(instance, nodeId, memory.get(nodeId)));\n",
    replace: "      free.set(nodeId, left);\n",
  },
  {
    name: "timeout-forgets-tasks",
    bug: "the requests of a lost node stay",
    file: "core/departure.ts",
    search:
      '    if (task.apiNodeId === nodeId) events.push({ type: "TaskDeleted", taskId });\n    else if',
    replace: "    if",
  },
  {
    name: "gone-untold",
    bug: "nodes report what is new, and never what is gone",
    file: "core/facts.ts",
    search: "    ...goneRunners(state, nodeId, facts),\n    ...goneEdges(state, nodeId, facts),\n",
    replace: "",
  },
  {
    name: "no-pre-vote",
    bug: "a candidate is supported although a master is heard",
    file: "core/member_election.ts",
    search:
      '  if (member.role === "follower" && from !== member.master) return objectTo(turn, from);\n',
    replace: '  if (member.role === "follower" && from === "") return objectTo(turn, from);\n',
  },
  {
    name: "answers-before-disk",
    bug: "events are told before they are on the disk",
    file: "core/member.ts",
    search: "    outputs: [...turn.disk, ...persist, ...published, ...turn.said],\n",
    replace: "    outputs: [...turn.disk, ...published, ...turn.said, ...persist],\n",
  },
  {
    name: "snapshot-any",
    bug: "a late snapshot sets a node back",
    file: "core/member_follower.ts",
    search:
      "const isOld = isSynced(turn.member) && lastEventAppliedIdx <= state.lastEventAppliedIdx;\n",
    replace:
      "const isOld = isSynced(turn.member) && lastEventAppliedIdx < 0 && state !== undefined;\n",
  },
];

/** How a planted bug was found. */
export interface Found {
  readonly seed: number;
  readonly property: string;
}

/** Runs the simulator on a copy of the sources with a bug; undefined when it notices nothing. */
export async function hunt(mutant: Mutant, seeds: number): Promise<Found | undefined> {
  const folder = await Deno.makeTempDir({ prefix: "exo-mutant-" });
  try {
    for (const path of COPIED) await copy(path, folder);
    const path = join(folder, mutant.file);
    const text = await Deno.readTextFile(path);
    const parts = text.split(mutant.search);
    if (parts.length !== 2) {
      const found = `${parts.length - 1} places in ${mutant.file}, one needed`;
      throw new Error(`Cannot plant ${mutant.name}: found ${found}`);
    }
    await Deno.writeTextFile(path, parts.join(mutant.replace));
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "tests/sim/main.ts", "--seeds", `${seeds}`, "--first"],
      cwd: folder,
    }).output();
    const said = new TextDecoder().decode(stdout);
    const hit = /^seed (\d+) \(\d+ nodes\) FAILED: ([^:]+):/m.exec(said);
    if (hit) return { seed: Number(hit[1]), property: hit[2] ?? "" };
    if (!/^\d+ passed, 0 failed$/m.test(said)) {
      throw new Error(`Cannot run ${mutant.name}: ${new TextDecoder().decode(stderr)}`);
    }
    return undefined;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function copy(path: string, folder: string): Promise<void> {
  const [from, to] = [join(ROOT, path), join(folder, path)];
  if ((await Deno.stat(from)).isDirectory) {
    await Deno.mkdir(to, { recursive: true });
    for await (const { name } of Deno.readDir(from)) await copy(join(path, name), folder);
  } else {
    await Deno.mkdir(join(to, ".."), { recursive: true });
    await Deno.copyFile(from, to);
  }
}

/** The table of mutants.md. */
function tableOf(rows: readonly (readonly [Mutant, Found | undefined])[]): string {
  const lines = rows.map(([{ name, bug, file }, found]) =>
    `| \`${name}\` | ${bug} | \`${file}\` | ${found?.seed ?? "—"} | ${
      found?.property ?? "not found"
    } |`
  );
  return ["| Mutant | The bug | Planted in | Seed | Property |", "|---|---|---|---|---|", ...lines]
    .join("\n");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      seeds: { type: "string" },
      only: { type: "string", multiple: true },
      update: { type: "boolean" },
    },
  });
  const seeds = Number(values.seeds ?? MUTANT_SEEDS);
  const chosen = MUTANTS.filter(({ name }) => !values.only || values.only.includes(name));
  const rows: [Mutant, Found | undefined][] = [];
  for (const mutant of chosen) {
    const found = await hunt(mutant, seeds);
    rows.push([mutant, found]);
    say(
      found ? `${mutant.name}: seed ${found.seed}: ${found.property}` : `${mutant.name}: NOT FOUND`,
    );
  }
  if (values.update) {
    const page = await Deno.readTextFile(TABLE);
    const written = page.replace(/\| Mutant [\s\S]*$/, `${tableOf(rows)}\n`);
    await Deno.writeTextFile(TABLE, written);
  }
  const missed = rows.filter(([, found]) => !found).length;
  say(`${rows.length - missed} found, ${missed} missed`);
  return missed > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());

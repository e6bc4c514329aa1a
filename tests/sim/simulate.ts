import { isServing } from "../../core/runner_status.ts";
import { rankOn, runnersOf } from "../../core/instance.ts";
import { Violation } from "./checker.ts";
import { disturb } from "./calm.ts";
import { heal, unleash } from "./faults.ts";
import { leftOver, owed } from "./liveness.ts";
import { Load } from "./load.ts";
import type { Mark } from "./marks.ts";
import type { SimNode } from "./node.ts";
import { World, type WorldOptions } from "./world.ts";

/** Virtual time that a healed cluster has to come to rest: ten retries wait for 362 s, and may fail. */
const HEALED_MS = 600_000;

/** Virtual time in which all that was deleted must be gone. */
const CLEANED_MS = 60_000;

/** How often states are compared, and rest is looked for. */
const LOOK_MS = 5_000;
const REST_LOOK_MS = 1_000;

/** Steps of one run; more means that nodes talk without end. */
const STEPS_MAX = 150_000;

/** How a run ended. */
export interface RunResult {
  readonly seed: number;
  readonly nodes: number;
  readonly failure?: { readonly property: string; readonly detail: string; readonly stack: string };
  readonly marks: readonly (readonly [Mark, number])[];
  /** The last lines of the trace, when it failed; all of them, when they were kept. */
  readonly trace: readonly string[];
  readonly digest: number;
  readonly steps: number;
  readonly virtualMs: number;
}

/** One seed is one run: faults and load, then healing, then everything deleted. */
export function simulate(options: WorldOptions): RunResult {
  const world = new World(options);
  let failure: RunResult["failure"];
  try {
    run(world);
  } catch (cause) {
    failure = failureOf(cause);
  }
  return {
    seed: options.seed,
    nodes: world.nodes.length,
    ...(failure ? { failure } : {}),
    marks: [...world.marks.counts].filter(([, count]) => count > 0),
    trace: options.keepTrace ? world.lines : failure ? world.lastLines() : [],
    digest: world.digest,
    steps: world.steps,
    virtualMs: world.schedule.now,
  };
}

function failureOf(cause: unknown): NonNullable<RunResult["failure"]> {
  const stack = cause instanceof Error ? cause.stack ?? "" : "";
  if (cause instanceof Violation) return { ...pick(cause), stack };
  return { property: "no node throws", detail: String(cause), stack };
}

function pick({ property, detail }: Violation) {
  return { property, detail };
}

function run(world: World): void {
  const { random } = world;
  const chaosMs = 10_000 + random.below(45_000);
  const load = new Load(world);
  loadUntil(world, load, chaosMs);
  unleash(world, chaosMs);
  while (world.schedule.now < chaosMs) {
    pass(world, Math.min(chaosMs, world.schedule.now + LOOK_MS));
    world.checker.compareStates();
  }
  heal(world);
  rest(world, HEALED_MS, () => owed(world));
  const [first] = world.nodes as [SimNode];
  world.checker.ledger.settle(first.state);
  endMarks(world, first);
  disturb(world, (ms) => pass(world, world.schedule.now + ms));
  rest(world, HEALED_MS, () => owed(world));
  clean(world, load);
}

function loadUntil(world: World, load: Load, end: number): void {
  const { random, schedule } = world;
  const pauseMs = random.pick([250, 800, 2_500]);
  const next = () => {
    if (schedule.now >= end) return;
    load.act();
    schedule.after(random.below(2 * pauseMs), next);
  };
  schedule.after(random.below(4_000), next);
}

/** Time goes by. */
function pass(world: World, until: number): void {
  while (world.schedule.step(until)) {
    world.checker.holds(world.steps < STEPS_MAX, "nodes come to rest", () => `${STEPS_MAX} steps`);
  }
}

/** Time goes by until nothing is owed, or the limit is reached. */
function rest(world: World, limitMs: number, look: () => readonly string[]): void {
  const end = world.schedule.now + limitMs;
  let left = look();
  for (let quiet = 0; quiet < 3; quiet = left.length === 0 ? quiet + 1 : 0) {
    world.checker.holds(
      world.schedule.now < end,
      "a healed cluster comes to rest",
      () => `after ${limitMs / 1_000} s: ${left.slice(0, 8).join("; ")}`,
    );
    pass(world, world.schedule.now + REST_LOOK_MS);
    world.checker.compareStates();
    left = look();
  }
  for (const node of world.live) world.checker.checkNode(node);
}

/** After any history, deleting all leaves the state of a cluster that was never asked anything. */
function clean(world: World, load: Load): void {
  const { nodes } = world;
  const node = world.random.pick(nodes);
  load.deleteAll(node);
  pass(world, world.schedule.now + 3_000);
  load.deleteCards(node);
  rest(world, CLEANED_MS, () => [...owed(world), ...leftOver(node.state)]);
}

function endMarks({ marks }: World, { state }: SimNode): void {
  const metas = [...state.metaInstances.values()];
  if (metas.length > 0 && metas.every(({ phase }) => phase === "ready")) {
    marks.hit("end: every meta-instance ready");
  }
  if (metas.some(({ phase }) => phase === "parked")) marks.hit("end: a meta-instance parked");
  if (metas.some(({ phase }) => phase === "placing")) {
    marks.hit("end: a meta-instance without a place");
  }
  for (const instance of state.instances.values()) {
    const ready = runnersOf(instance).every((id) => isServing(state.runners.get(id)?.status));
    if (!ready) continue;
    const size = [...state.nodes.keys()].filter((id) => rankOn(instance, id)).length;
    if (instance.type === "MlxJacclInstance") marks.hit("instance: ready over RDMA");
    marks.hit(size > 1 ? "instance: ready on several nodes" : "instance: ready on one node");
  }
}

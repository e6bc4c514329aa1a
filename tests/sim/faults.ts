import { NodeId } from "../../core/ids.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Times that a disk may be wiped in one run: each one may lose what only it had. */
const WIPES_MAX = 2;

/** One kind of mishap. */
type Fault = (world: World) => void;

/** Something between two machines, and its end. */
function onLink(
  world: World,
  fault: Parameters<World["network"]["change"]>[2],
  end: Parameters<World["network"]["change"]>[2],
): void {
  const { random, network, nodes, schedule } = world;
  if (nodes.length < 2) return;
  const from = random.below(nodes.length);
  const to = (from + 1 + random.below(nodes.length - 1)) % nodes.length;
  const isAll = random.below(3) === 0;
  const pairs = isAll
    ? nodes.flatMap((_, a) => nodes.map((_, b) => [a, b] as const)).filter(([a, b]) => a !== b)
    : [[from, to] as const];
  for (const [a, b] of pairs) network.change(a, b, fault);
  const isLong = random.below(5) === 0;
  schedule.after(1_000 + random.below(isLong ? 35_000 : 12_000), () => {
    for (const [a, b] of pairs) network.change(a, b, end);
  });
}

/** Two sides that do not hear each other; now and then for so long that nodes time out. */
function split(world: World, isLeft: (machine: number) => boolean): void {
  const { random, network, nodes, schedule, marks } = world;
  if (nodes.length < 2) return;
  marks.hit("fault: partition");
  const pairs = nodes.flatMap((_, a) => nodes.map((_, b) => [a, b] as const))
    .filter(([a, b]) => isLeft(a) !== isLeft(b));
  world.trace(() =>
    `partition: ${nodes.filter((_, at) => isLeft(at)).map(({ nodeId }) => nodeId)} apart`
  );
  for (const [a, b] of pairs) network.change(a, b, { isUp: false });
  const isLong = random.below(4) === 0;
  schedule.after(isLong ? 32_000 + random.below(10_000) : 500 + random.below(15_000), () => {
    marks.hit("fault: partition healed");
    world.trace(() => "the partition heals");
    for (const [a, b] of pairs) network.change(a, b, { isUp: true });
  });
}

function someNode({ live, random }: World): SimNode | undefined {
  return live.length === 0 ? undefined : random.pick(live);
}

function someMaster({ live, random }: World): SimNode | undefined {
  const masters = live.filter(({ isMaster }) => isMaster);
  return masters.length === 0 ? undefined : random.pick(masters);
}

function crash(world: World, node: SimNode | undefined): void {
  if (node) world.crash(node, world.random.below(2) === 0);
}

function stop(world: World, node: SimNode | undefined): void {
  if (node) world.stop(node);
}

function jump(world: World, sign: 1 | -1): void {
  const { random, marks } = world;
  const node = someNode(world);
  if (!node) return;
  marks.hit(sign > 0 ? "fault: clock jumped forward" : "fault: clock jumped back");
  node.skewMs += sign * random.pick([1_000, 30_000, 3_600_000, 10 * 86_400_000]);
}

/** The kinds of mishap; a world has some of them, drawn by its seed. */
const FAULTS: readonly Fault[] = [
  (world) => onLink(world, { lossRatio: 0.05 + world.random.next() / 2 }, { lossRatio: 0 }),
  (world) => onLink(world, { duplicateRatio: 0.3 }, { duplicateRatio: 0 }),
  (world) => onLink(world, { reorderMs: 50 + world.random.below(900) }, { reorderMs: 0 }),
  (world) => onLink(world, { delayMs: 150 + world.random.below(2_500) }, { delayMs: 1 }),
  (world) => {
    if (world.nodes.length > 1) world.marks.hit("fault: link one-way");
    onLink(world, { isUp: false }, { isUp: true });
  },
  (world) => {
    const left = new Set(world.nodes.map((_, at) => at).filter(() => world.random.below(2) === 0));
    split(world, (machine) => left.has(machine));
  },
  (world) => {
    const alone = world.random.below(world.nodes.length);
    split(world, (machine) => machine === alone);
  },
  (world) => {
    const master = someMaster(world);
    if (master) split(world, (machine) => machine === master.machine);
  },
  (world) => crash(world, someNode(world)),
  (world) => crash(world, someNode(world)),
  (world) => crash(world, someMaster(world)),
  (world) => {
    for (const node of world.live) if (world.random.below(4) > 0) crash(world, node);
  },
  (world) => {
    const node = world.random.below(2) === 0 ? someMaster(world) : someNode(world);
    if (node) node.crashIn = world.random.below(12);
  },
  (world) => stop(world, someNode(world)),
  (world) => stop(world, someMaster(world)),
  (world) => wipe(world),
  (world) => {
    const node = someNode(world);
    if (!node) return;
    node.diskDelayMs = world.random.pick([20, 300, 2_500]);
    world.schedule.after(2_000 + world.random.below(8_000), () => node.diskDelayMs = 0);
  },
  (world) => {
    const node = someNode(world);
    if (!node) return;
    node.isDiskFull = true;
    world.schedule.after(500 + world.random.below(10_000), () => node.isDiskFull = false);
  },
  (world) => jump(world, 1),
  (world) => jump(world, -1),
  (world) => crashRunner(world),
  (world) => crashRunner(world),
];

function crashRunner({ live, random, marks }: World): void {
  const runners = live.flatMap(({ worker }) => [...(worker?.ranks.values() ?? [])])
    .filter(({ isAlive }) => isAlive);
  if (runners.length === 0) return;
  marks.hit("fault: runner crashed");
  random.pick(runners).fail("the process was killed");
}

const wipes = new WeakMap<World, number>();

function wipe(world: World): void {
  const { random, nodes, schedule } = world;
  const count = wipes.get(world) ?? 0;
  const node = someNode(world);
  if (!node || count >= WIPES_MAX || nodes.length < 2) return;
  wipes.set(world, count + 1);
  node.kill(true);
  const { life } = node;
  schedule.after(500 + random.below(5_000), () => {
    if (node.isUp || node.life !== life) return;
    node.wipe(NodeId.parse(`${node.nodeId}w`));
    world.start(node);
  });
}

/** Draws the mishaps of a world, and lets them happen until `end`. */
export function unleash(world: World, end: number): void {
  const { random, schedule } = world;
  const kinds = random.below(12) === 0 ? [] : FAULTS.filter(() => random.below(2) === 0);
  const pauseMs = random.pick([400, 1_500, 4_000, 9_000]);
  if (random.below(3) === 0) world.downloadFailRatio = 0.3;
  if (random.below(3) === 0) world.lookupFailRatio = 0.3;
  if (random.below(3) === 0) world.lookupSlowRatio = 0.4;
  const next = () => {
    if (!world.isChaos || schedule.now >= end || kinds.length === 0) return;
    random.pick(kinds)(world);
    schedule.after(random.below(2 * pauseMs), next);
  };
  schedule.after(3_000 + random.below(5_000), next);
}

/** Ends all mishaps: everything is up, and stays so. */
export function heal(world: World): void {
  world.isChaos = false;
  world.trace(() => "healing");
  world.network.heal();
  for (const node of world.nodes) {
    node.crashIn = undefined;
    node.isDiskFull = false;
    node.diskDelayMs = 0;
    world.restart(node);
  }
}

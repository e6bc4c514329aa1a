import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** A master that is killed has a successor within this (design: a kill -9 of the master). */
export const SUCCESSION_MS = 3_000;

/** How long one node hears nothing of its master while all others do. */
const DEAF_MS = 8_000;

/** How long a restarted follower is watched. */
const REJOIN_MS = 5_000;

type Pass = (ms: number) => void;

/** Single mishaps in a cluster that is well: what each may cost is known exactly. */
export function disturb(world: World, pass: Pass): void {
  const { nodes, random } = world;
  const master = masterOf(world);
  if (nodes.length < 2 || !master) return;
  switch (random.below(4)) {
    case 0:
      if (nodes.length > 2) deafen(world, master, pass);
      return;
    case 1:
      return restartFollower(world, master, pass);
    case 2:
      return killMaster(world, master, pass);
    default:
      return;
  }
}

function masterOf({ nodes }: World): SimNode | undefined {
  return nodes.find(({ isMaster }) => isMaster);
}

function someFollower({ nodes, random }: World, master: SimNode): SimNode {
  return random.pick(nodes.filter((node) => node !== master));
}

/** A node that does not hear the master unseats nobody: the others do, and say so (pre-vote). */
function deafen(world: World, master: SimNode, pass: Pass): void {
  const { network, checker, marks } = world;
  const deaf = someFollower(world, master);
  const clock = master.member?.epoch?.clock;
  world.trace(() => `${deaf.nodeId} does not hear ${master.nodeId}`);
  network.change(master.machine, deaf.machine, { isUp: false });
  pass(DEAF_MS);
  marks.hit("calm: a node did not hear the master");
  checker.holds(
    master.isMaster && master.member?.epoch?.clock === clock,
    "who does not hear the master unseats nobody",
    () => `${deaf.nodeId} was deaf, and ${master.nodeId} lost epoch ${clock}`,
  );
  network.change(master.machine, deaf.machine, { isUp: true });
}

/** A follower that starts again follows again. */
function restartFollower(world: World, master: SimNode, pass: Pass): void {
  const { checker, marks } = world;
  const follower = someFollower(world, master);
  const clock = master.member?.epoch?.clock;
  follower.kill(false);
  pass(200);
  world.start(follower);
  pass(REJOIN_MS);
  marks.hit("calm: a follower was restarted");
  checker.holds(
    master.isMaster && master.member?.epoch?.clock === clock,
    "who comes back unseats nobody",
    () => `${follower.nodeId} was restarted, and ${master.nodeId} lost epoch ${clock}`,
  );
}

/** A master that dies has a successor soon. */
function killMaster(world: World, master: SimNode, pass: Pass): void {
  const { checker, marks, nodes } = world;
  master.kill(false);
  pass(SUCCESSION_MS);
  marks.hit("calm: the master was killed");
  const heirs = nodes.filter(({ isMaster }) => isMaster);
  checker.holds(
    heirs.length === 1,
    "a dead master has one successor within 3 s",
    () =>
      `${master.nodeId} was killed, and there are ${heirs.length}: ${heirs.map((n) => n.nodeId)}`,
  );
  world.start(master);
}

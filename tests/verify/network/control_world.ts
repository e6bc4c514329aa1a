import { type NodeId, taskIdOf } from "../../../core/ids.ts";
import type { Epoch } from "../../../core/lineage.ts";
import { headOf } from "../../../core/log_tail.ts";
import { encodeState, type State } from "../../../core/state.ts";
import type { Transport } from "../../../net/transport.ts";
import { type Clock, SYSTEM_CLOCK } from "../../../node/clock.ts";
import { ControlPlane } from "../../../node/control_plane.ts";
import { EventLog } from "../../../node/event_log.ts";
import { Replica } from "../../../node/replica.ts";
import { eventually } from "../../support/eventually.ts";
import { STORY_COMMANDS, STORY_MEMORY, storyFacts } from "../../support/member_story.ts";
import { TempDir } from "../../support/temp_dir.ts";

/** The clock of an epoch above all of the recorded messages: those are of the past. */
const CLOCK = 1_000;

/** What a command brings about at once has come about by then. */
const PAUSE_MS = 100;

/** Reconcilers that have something to do have done it by then. */
const REST_MS = 2_500;

/** How far the nodes' clock goes on at once. */
const TICK_MS = 20;

/** The requests of the story, whose clients wait for their answers. */
const ASKED = new Set(STORY_COMMANDS.map(([, { commandId }]) => taskIdOf(commandId)));

/** A node's control plane on a disk of its own. */
interface Plane {
  readonly nodeId: NodeId;
  readonly transport: Transport;
  readonly control: ControlPlane;
  readonly replica: Replica;
  readonly eventLog: EventLog;
}

/**
 * Control planes that have lived through what the recorded messages tell of, the first of them the
 * master. They belong to nobody but the test: a transport of each comes from outside.
 */
export class ControlWorld implements AsyncDisposable {
  readonly planes: readonly Plane[];
  readonly epoch: Epoch;
  readonly #dirs: readonly TempDir[];
  readonly #clock: PatientClock;
  readonly #before: readonly string[];
  readonly #onDisk: readonly string[];

  private constructor(
    planes: readonly Plane[],
    epoch: Epoch,
    { dirs, clock }: { readonly dirs: readonly TempDir[]; readonly clock: PatientClock },
  ) {
    [this.planes, this.epoch, this.#dirs, this.#clock] = [planes, epoch, dirs, clock];
    this.#before = this.#states();
    this.#onDisk = this.#logs();
  }

  /** The nodes join in turn: the first is alone, and leads. What nodes of the story do, they do. */
  static async start(joins: readonly (() => Promise<Transport>)[]): Promise<ControlWorld> {
    const planes: Plane[] = [];
    const dirs: TempDir[] = [];
    const clock = new PatientClock();
    for (const join of joins) {
      const dir = await TempDir.make();
      dirs.push(dir);
      planes.push(startPlane(await join(), dir.path, clock));
    }
    const [master] = planes as [Plane];
    await eventually("all follow", () => planes.every(({ control }) => !!control.epoch()));
    for (const { nodeId, control } of planes) {
      control.report({ ...storyFacts(nodeId), followedTasks: ASKED });
    }
    for (const [nodeId, command] of STORY_COMMANDS) {
      await eventually("what was reported is known", resting(planes, clock, PAUSE_MS));
      // Elsewhere than in the story all is asked at the master.
      const { control } = planes.find((one) => one.nodeId === nodeId) ?? master;
      // Some say no, as they did in the story.
      await control.submit(command).catch(() => {});
    }
    await eventually("all states are equal and rest", resting(planes, clock, REST_MS));
    return new ControlWorld(planes, master.control.epoch() as Epoch, { dirs, clock });
  }

  /** What all nodes have. */
  get state(): State {
    return (this.planes as [Plane])[0].replica.state;
  }

  /** What has changed since the start; undefined: nothing. */
  changed(): string | undefined {
    return this.#difference(this.#before, this.#states());
  }

  /** The same of what the nodes would find in their logs when they start again. */
  changedOnDisk(): string | undefined {
    return this.#difference(this.#onDisk, this.#logs());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#clock[Symbol.dispose]();
    for (const { control, eventLog, transport } of this.planes.toReversed()) {
      control.stop();
      await transport.close();
      eventLog.close();
    }
    for (const dir of this.#dirs) await dir[Symbol.asyncDispose]();
  }

  #difference(before: readonly string[], now: readonly string[]): string | undefined {
    const at = now.findIndex((one, index) => one !== before[index]);
    if (at < 0) return undefined;
    return `${this.planes[at]?.nodeId}: ${difference(before[at] ?? "", now[at] ?? "")}`;
  }

  /** Of each node: its state, whom it follows, and what it believes of the others' memory. */
  #states(): string[] {
    return this.planes.map(({ control, replica: { state } }) =>
      JSON.stringify([encodeState(state), control.epoch(), this.#believed(control)])
    );
  }

  #believed(control: ControlPlane) {
    const { memory } = control.telemetry();
    return this.planes.map(({ nodeId }) => memory.get(nodeId) ?? null);
  }

  #logs(): string[] {
    return this.planes.map(({ eventLog }) => {
      const { state, epoch, branch } = eventLog.replay();
      return JSON.stringify([encodeState(state), epoch, branch && encodeState(branch)]);
    });
  }
}

/**
 * Time that passes only while this process runs, and no faster than it does its work: a heartbeat
 * that is late by load alone is not late, so that no lease ends but for what is said.
 */
class PatientClock implements Clock, Disposable {
  readonly now = SYSTEM_CLOCK.now;
  readonly newId = SYSTEM_CLOCK.newId;
  readonly random = SYSTEM_CLOCK.random;
  readonly newSeed = SYSTEM_CLOCK.newSeed;
  // What was not ticked while nothing ran is not made up for.
  readonly #timer = setInterval(() => this.#uptimeMs += TICK_MS, TICK_MS);
  #uptimeMs = 0;

  uptime(): number {
    return this.#uptimeMs;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

function startPlane(transport: Transport, dataDir: string, clock: Clock): Plane {
  const eventLog = EventLog.open(dataDir);
  const nodeId = transport.self;
  const isFirst = transport.peers().size === 0;
  const left = eventLog.replay();
  const replica = new Replica(left.state);
  const control = new ControlPlane({
    nodeId,
    eventLog,
    replica,
    transport,
    clock,
    memory: () => STORY_MEMORY,
    lookUpCard: () => Promise.resolve({ ok: false, reason: "nobody knows it" }),
    left: isFirst ? { ...left, epoch: { clock: CLOCK, nodeId } } : left,
  });
  control.start();
  return { nodeId, transport, control, replica, eventLog };
}

/** Whether all have the same state, and have had it for a while; to be asked over and over. */
function resting(planes: readonly Plane[], clock: Clock, restMs: number): () => boolean {
  let [last, since] = ["", clock.uptime()];
  return () => {
    const heads = new Set(planes.map(({ replica }) => JSON.stringify(headOf(replica.state))));
    const hasRunners = planes.every(({ replica: { state } }) =>
      state.runners.size === ranks(state)
    );
    const hasMemory = planes.every(({ control }) =>
      planes.every(({ nodeId }) => control.telemetry().memory.has(nodeId))
    );
    const now = [...heads].join();
    const hasMaster = planes.every(({ control }) => control.epoch() !== undefined);
    const isAgreed = heads.size === 1 && hasMaster && hasMemory && hasRunners;
    if (!isAgreed || now !== last) [last, since] = [now, clock.uptime()];
    return clock.uptime() - since > restMs;
  };
}

function ranks({ instances }: State): number {
  return [...instances.values()]
    .reduce(
      (sum, { shardAssignments }) => sum + Object.keys(shardAssignments.runnerToShard).length,
      0,
    );
}

function difference(before: string, after: string): string {
  const at = [...after].findIndex((char, index) => char !== before[index]);
  const piece = (text: string) => text.slice(Math.max(0, at - 100), at + 100);
  return `${piece(before)} became ${piece(after)}`;
}

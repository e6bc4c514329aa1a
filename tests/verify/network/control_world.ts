import { LEASE_MS } from "../../../core/election.ts";
import { type NodeId, taskIdOf } from "../../../core/ids.ts";
import type { Epoch } from "../../../core/lineage.ts";
import { headOf } from "../../../core/log_tail.ts";
import { HEARTBEAT_MS } from "../../../core/member_master.ts";
import { EMPTY_STATE, encodeState, type State } from "../../../core/state.ts";
import type { Transport } from "../../../net/transport.ts";
import { SYSTEM_CLOCK } from "../../../node/clock.ts";
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

/** A heartbeat may be so late before its master's lease is over. */
const LATE_MS_MAX = LEASE_MS - HEARTBEAT_MS;

/** How often it is looked at whether this process runs. */
const STALL_LOOK_MS = 20;

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
  /** On a wire: heartbeats are late where this process does not run. */
  readonly #stall: Stall | undefined;
  readonly #before: readonly string[];
  readonly #beforeButReign: readonly string[];
  readonly #onDisk: readonly string[];

  private constructor(
    planes: readonly Plane[],
    epoch: Epoch,
    dirs: readonly TempDir[],
    stall: Stall | undefined,
  ) {
    [this.planes, this.epoch, this.#dirs, this.#stall] = [planes, epoch, dirs, stall];
    this.#before = this.#states();
    this.#beforeButReign = this.#statesButReign();
    this.#onDisk = this.#logs();
  }

  /**
   * The nodes join in turn: the first is alone, and leads. What nodes of the story do, they do.
   * `isOnWire`: where this process stood still, heartbeats came too late, and nodes may have elected
   * one of themselves anew; all but the reign has to stay the same then.
   */
  static async start(
    joins: readonly (() => Promise<Transport>)[],
    { isOnWire = false } = {},
  ): Promise<ControlWorld> {
    const planes: Plane[] = [];
    const dirs: TempDir[] = [];
    for (const join of joins) {
      const dir = await TempDir.make();
      dirs.push(dir);
      planes.push(startPlane(await join(), dir.path));
    }
    const [master] = planes as [Plane];
    await eventually("all follow", () => planes.every(({ control }) => !!control.epoch()));
    for (const { nodeId, control } of planes) {
      control.report({ ...storyFacts(nodeId), followedTasks: ASKED });
    }
    for (const [nodeId, command] of STORY_COMMANDS) {
      await eventually("what was reported is known", resting(planes, PAUSE_MS));
      // Elsewhere than in the story all is asked at the master.
      const { control } = planes.find((one) => one.nodeId === nodeId) ?? master;
      // Some say no, as they did in the story.
      await control.submit(command).catch(() => {});
    }
    await eventually("all states are equal and rest", resting(planes, REST_MS));
    return new ControlWorld(
      planes,
      master.control.epoch() as Epoch,
      dirs,
      isOnWire ? new Stall() : undefined,
    );
  }

  /** What all nodes have. */
  get state(): State {
    return (this.planes as [Plane])[0].replica.state;
  }

  /** What has changed since the start; undefined: nothing. */
  changed(): string | undefined {
    const changed = this.#difference(this.#before, this.#states());
    if (!changed || !this.#mayHaveElected) return changed;
    return this.#difference(this.#beforeButReign, this.#statesButReign());
  }

  /** The same of what the nodes would find in their logs when they start again. */
  changedOnDisk(): string | undefined {
    if (this.#mayHaveElected) return undefined;
    return this.#difference(this.#onDisk, this.#logs());
  }

  get #mayHaveElected(): boolean {
    return (this.#stall?.longestMs ?? 0) > LATE_MS_MAX;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stall?.[Symbol.dispose]();
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

  /** The same, but that any of the nodes may reign, and have said so in the log. */
  #statesButReign(): string[] {
    return this.planes.map(({ control, replica: { state } }) => {
      const master = control.epoch()?.nodeId;
      const isOwn = master === undefined || this.planes.some(({ nodeId }) => nodeId === master);
      const kept: State = { ...state, lastEventAppliedIdx: 0, lineage: EMPTY_STATE.lineage };
      return JSON.stringify([encodeState(kept), isOwn, this.#believed(control)]);
    });
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

/** The longest time for which nothing has run in this process. */
class Stall implements Disposable {
  readonly #timer = setInterval(() => this.#tick(), STALL_LOOK_MS);
  #tickedAt = performance.now();
  #longestMs = 0;

  get longestMs(): number {
    return Math.max(this.#longestMs, performance.now() - this.#tickedAt);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    this.#longestMs = this.longestMs;
    this.#tickedAt = performance.now();
  }
}

function startPlane(transport: Transport, dataDir: string): Plane {
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
    clock: SYSTEM_CLOCK,
    memory: () => STORY_MEMORY,
    lookUpCard: () => Promise.resolve({ ok: false, reason: "nobody knows it" }),
    left: isFirst ? { ...left, epoch: { clock: CLOCK, nodeId } } : left,
  });
  control.start();
  return { nodeId, transport, control, replica, eventLog };
}

/** Whether all have the same state, and have had it for a while; to be asked over and over. */
function resting(planes: readonly Plane[], restMs: number): () => boolean {
  let [last, since] = ["", performance.now()];
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
    if (!isAgreed || now !== last) [last, since] = [now, performance.now()];
    return performance.now() - since > restMs;
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

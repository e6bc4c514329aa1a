import { type NodeId, taskIdOf } from "../../../core/ids.ts";
import type { Epoch } from "../../../core/lineage.ts";
import { headOf } from "../../../core/log_tail.ts";
import { encodeState, type State } from "../../../core/state.ts";
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
  readonly #before: readonly string[];

  private constructor(planes: readonly Plane[], epoch: Epoch, dirs: readonly TempDir[]) {
    [this.planes, this.epoch, this.#dirs] = [planes, epoch, dirs];
    this.#before = this.#states();
  }

  /** The nodes join in turn: the first is alone, and leads. What nodes of the story do, they do. */
  static async start(
    joins: readonly (() => Promise<Transport>)[],
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
    return new ControlWorld(planes, master.control.epoch() as Epoch, dirs);
  }

  /** What all nodes have. */
  get state(): State {
    return (this.planes as [Plane])[0].replica.state;
  }

  /** What has changed since the start; undefined: nothing. */
  changed(): string | undefined {
    for (const [at, state] of this.#states().entries()) {
      if (state === this.#before[at]) continue;
      return `${this.planes[at]?.nodeId} is not what it was: ${
        difference(this.#before[at] ?? "", state)
      }`;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { control, eventLog, transport } of this.planes.toReversed()) {
      control.stop();
      await transport.close();
      eventLog.close();
    }
    for (const dir of this.#dirs) await dir[Symbol.asyncDispose]();
  }

  /** Of each node: its state, whom it follows, and what it believes of the others' memory. */
  #states(): string[] {
    return this.planes.map(({ control, replica }) => {
      const { memory } = control.telemetry();
      const believed = this.planes.map(({ nodeId }) => memory.get(nodeId) ?? null);
      return JSON.stringify([encodeState(replica.state), control.epoch(), believed]);
    });
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
    const isAgreed = heads.size === 1 && hasMemory && hasRunners;
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

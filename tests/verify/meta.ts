import assert from "node:assert/strict";
import { serveApi } from "../../api/server.ts";
import { MetaInstanceId, type ModelId } from "../../core/ids.ts";
import type { MetaInstance } from "../../core/meta_instance.ts";
import { RETRY_RESET_MS } from "../../core/reconcile_instances.ts";
import { encodeState } from "../../core/state.ts";
import type { Node } from "../../node/node.ts";
import { runIn } from "../cli/fake_io.ts";
import { eventually } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";
import { emptied, startTestNode, type TestNodeOptions, until } from "../support/test_node.ts";
import { WrongClock } from "../support/wrong_clock.ts";

/** How a model is kept running. */
export interface MetaOptions {
  /** Kills that must be survived, each after a minute of serving. */
  readonly kills: number;
  /** Failures in a row that are forgiven. */
  readonly maxRetries: number;
  readonly runner?: TestNodeOptions;
  /** Registers the model with a node. */
  readonly addModel: (node: Node, dir: string) => Promise<ModelId>;
  /** Told of each thing that held. */
  readonly onPassed?: (what: string) => void;
}

/** A node whose date can be moved, behind its API. */
class Machine implements AsyncDisposable {
  readonly clock = new WrongClock();
  readonly #dir: string;
  readonly #runner: TestNodeOptions | undefined;
  readonly #stopping = new AbortController();
  #node: Node | undefined;
  #url = "";

  constructor(dir: string, runner: TestNodeOptions | undefined) {
    this.#dir = dir;
    this.#runner = runner;
  }

  get node(): Node {
    assert.ok(this.#node);
    return this.#node;
  }

  async start(): Promise<void> {
    this.#node = await startTestNode(`${this.#dir}/data`, {}, {
      ...this.#runner,
      clock: this.clock,
    });
    const { signal } = this.#stopping;
    const { url } = await serveApi(this.#node, { hostname: "127.0.0.1", port: 0, signal });
    this.#url = url;
  }

  /** What a command prints with `--json`. */
  async exo(...argv: readonly string[]): Promise<unknown> {
    const world = { env: { EXO_URL: this.#url } };
    const { code, stdout, stderr } = await runIn(world, [...argv, "--json"]);
    assert.equal(code, 0, `exo ${argv.join(" ")}: ${stderr}`);
    return JSON.parse(stdout);
  }

  /** Lets a minute of serving pass, and a little. */
  passMinute(): void {
    this.clock.offsetMs += RETRY_RESET_MS + 1_000;
  }

  killRunner(): void {
    const [pid] = this.node.runnerPids().values();
    assert.ok(pid !== undefined, "a runner runs");
    Deno.kill(pid, "SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#node?.stop();
    this.#stopping.abort();
  }
}

/** Waits until a wish stands as `is` wants it. */
function wishIs(
  { node }: Machine,
  id: MetaInstanceId,
  [what, is]: readonly [string, (meta: MetaInstance) => boolean],
): Promise<void> {
  return until(node, `the wish ${what}`, ({ metaInstances }) => {
    const meta = metaInstances.get(id);
    return meta !== undefined && is(meta);
  });
}

const READY = ["is ready", ({ phase }: MetaInstance) => phase === "ready"] as const;
const PARKED = ["is parked", ({ phase }: MetaInstance) => phase === "parked"] as const;
const WELL = [
  "is ready and its failures are forgotten",
  ({ phase, consecutiveFailures }: MetaInstance) => phase === "ready" && consecutiveFailures === 0,
] as const;

/** Kills the runner of a wish that serves, until `is` holds again for it. */
async function killed(
  machine: Machine,
  id: MetaInstanceId,
  is: readonly [string, (meta: MetaInstance) => boolean],
): Promise<void> {
  const before = machine.node.state().metaInstances.get(id)?.consecutiveFailures ?? 0;
  machine.killRunner();
  await wishIs(machine, id, [
    "has failed",
    ({ phase, consecutiveFailures }) => phase === "parked" || consecutiveFailures > before,
  ]);
  await wishIs(machine, id, is);
}

/** Kills the runner as often in a row as is forgiven, and once more: the wish is parked. */
async function exhaust(machine: Machine, id: MetaInstanceId, maxRetries: number): Promise<void> {
  for (let n = 0; n < maxRetries; n++) await killed(machine, id, READY);
  await killed(machine, id, PARKED);
  const meta = machine.node.state().metaInstances.get(id);
  assert.match(meta?.lastFailureError ?? "", /SIGKILL/);
  const [listed] = await machine.exo("meta-instance", "list") as { lastFailureError: string }[];
  assert.match(listed?.lastFailureError ?? "", /^test: .*SIGKILL/);
  await eventually("its runner is gone", () => machine.node.runnerPids().size === 0);
  assert.equal(machine.node.state().instances.size, 0);
}

/**
 * Declares a model on a real node and kills its runner with SIGKILL, over and over: it serves again
 * each time. Kills that follow too closely park it, with the reason; the user arms it again, and
 * so does the node's restart. Deleted, it leaves the state of an empty node.
 * @throws what did not hold.
 */
export async function keepRunning(options: MetaOptions): Promise<void> {
  const { kills, maxRetries, onPassed = () => {} } = options;
  await using dir = await TempDir.make();
  await using machine = new Machine(dir.path, options.runner);
  await machine.start();
  const modelId = await options.addModel(machine.node, dir.path);
  const flags = ["--max-retries", `${maxRetries}`, "--wait"];
  const created = await machine.exo("meta-instance", "create", modelId, ...flags);
  const { metaInstanceId } = created as { metaInstanceId: string };
  const id = MetaInstanceId.parse(metaInstanceId);
  onPassed("created, and ready");
  for (let kill = 1; kill <= kills; kill++) {
    machine.passMinute();
    await wishIs(machine, id, WELL);
    await killed(machine, id, READY);
    onPassed(`kill ${kill} after a minute of serving: ready again`);
  }
  machine.passMinute();
  await wishIs(machine, id, WELL);
  await exhaust(machine, id, maxRetries);
  onPassed(`${maxRetries + 1} kills in a row: parked, with the reason`);
  await machine.exo("meta-instance", "retry", id);
  await wishIs(machine, id, READY);
  onPassed("retried by the user: ready again");
  await exhaust(machine, id, maxRetries);
  await machine.node.stop();
  await machine.start();
  await wishIs(machine, id, READY);
  onPassed("parked, and the node started again: ready again");
  await machine.exo("meta-instance", "delete", id);
  await eventually("its runner is gone", () => machine.node.runnerPids().size === 0);
  await machine.exo("models", "remove", modelId);
  const state = machine.node.state();
  assert.equal(encodeState(state), encodeState(emptied(state)));
  onPassed("deleted: the state of an empty node");
}

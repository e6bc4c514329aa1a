import assert from "node:assert/strict";
import type { StateView } from "../api/client_state.ts";
import { AppError, type ErrorCode } from "../core/errors.ts";
import { Random } from "./support/random.ts";
import { type User, Wishes } from "./verify/wishes.ts";

/** Does as it is asked, or refuses it by a code. */
class FakeClient {
  code: ErrorCode | undefined;
  #count = 0;

  placeInstance = async () => ({ instanceId: await this.#made(), modelId: "m" });
  createMetaInstance = async () => ({ metaInstanceId: await this.#made() });
  deleteInstance = async () => void await this.#made();
  deleteMetaInstance = async () => void await this.#made();

  #made(): Promise<string> {
    if (!this.code) return Promise.resolve(`made-${this.#count++}`);
    return Promise.reject(new AppError(this.code, "Cannot do it"));
  }
}

/** One thing that was promised, and a user who wants it gone, or one more of its kind. */
async function oneWish(wants: "it gone" | "one more") {
  const client = new FakeClient();
  const wishes = new Wishes("m");
  const node = { index: 0, client } as unknown as User["node"];
  await wishes.declare(node);
  const random = new Random(1);
  // A choice that takes away, or creates a meta-instance.
  random.next = () => wants === "it gone" ? 0 : 0.9;
  const victims = wants === "it gone" ? [{ id: "made-0", kind: "meta-instance" as const }] : [];
  return { client, wishes, user: { node, when: "in a test", random, victims } };
}

/** A state of meta-instances that have no instances yet. */
function stateOf(...ids: string[]): StateView {
  const metaInstances = Object.fromEntries(ids.map((id) => [id, {}]));
  return { instances: {}, metaInstances } as unknown as StateView;
}

Deno.test("a refusal to take away leaves the promise that it is there", async () => {
  const { client, wishes, user } = await oneWish("it gone");
  client.code = "not_found";
  assert.equal(await wishes.ask(user), false);
  assert.match(wishes.brokenIn(stateOf(), "here").join(), /made-0 was lost here/);
  wishes.takeUp(stateOf());
  assert.equal(wishes.count, 1);
});

Deno.test("what may have been taken away may be there or not, and is known then", async () => {
  for (const isThere of [true, false]) {
    const { client, wishes, user } = await oneWish("it gone");
    client.code = "timed_out";
    assert.equal(await wishes.ask(user), false);
    const state = isThere ? stateOf("made-0") : stateOf();
    assert.deepEqual(wishes.brokenIn(state, "here"), []);
    wishes.takeUp(state);
    assert.equal(wishes.count, isThere ? 1 : 0);
  }
});

Deno.test("an acknowledged deletion holds, whatever another user was told", async () => {
  const { client, wishes, user } = await oneWish("it gone");
  assert.equal(await wishes.ask(user), true);
  for (const code of ["not_found", "timed_out"] as const) {
    client.code = code;
    await wishes.ask(user);
  }
  assert.deepEqual(wishes.brokenIn(stateOf(), "here"), []);
  assert.match(wishes.brokenIn(stateOf("made-0"), "here").join(), /made-0 came back here/);
});

Deno.test("a refused creation licenses nothing, one of unknown outcome one thing", async () => {
  const licensed = { placement_failed: [], not_ready: [], master_changed: ["one"] };
  for (const [code, more] of Object.entries(licensed)) {
    const { client, wishes, user } = await oneWish("one more");
    client.code = code as ErrorCode;
    assert.equal(await wishes.ask(user), false);
    wishes.takeUp(stateOf("made-0", ...more));
    assert.equal(wishes.count, 1 + more.length);

    await wishes.ask(user);
    const known = stateOf("made-0", ...more, ...more.map((id) => `${id} more`), "another");
    assert.throws(() => wishes.takeUp(known), /nobody has asked for meta-instance another/);
  }
});

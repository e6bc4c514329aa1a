import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { Rounds } from "../../../engines/group/rounds.ts";
import { decodeFrame, encodeHeader } from "../../../engines/group/step_frame.ts";
import { LocalRing } from "../../support/local_group.ts";

/** The first of two ranks, and a test as the second, which sends an outcome for each frame. */
function world() {
  const ring = new LocalRing(2);
  const [group, other] = ring.groups;
  ok(group && other);
  let ms = 0;
  const rounds = new Rounds({ group, now: () => ms });
  const answer = (blocksMax: number | null = null) => {
    const frame = other.receive(0);
    ok(frame);
    const { header } = decodeFrame(frame, "node-0");
    ok(header.type === "step");
    const { serial } = header;
    other.send(encodeHeader({ type: "outcome", serial, drawn: [], blocksMax }));
    return header;
  };
  const passes = (more: number) => void (ms += more);
  return { rounds, ring, other, answer, passes };
}

const TIME = { sentAt: 0, msMax: 100 };

Deno.test("Rounds keeps what comes back until it is taken, and nothing of what was dropped", () => {
  const { rounds, answer } = world();
  const [first = -1, second = -1, third = -1] = [0, 1, 2].map(() => rounds.send({ inputs: [] }));
  equal(rounds.underWay, 3);
  ok(!rounds.wait(first, 0, TIME));
  rounds.drop(first);
  for (let i = 0; i < 3; i++) answer(7 - i);
  ok(rounds.wait(third, 0, TIME));
  deepEqual([rounds.underWay, rounds.blocksMax], [0, 5]);
  // Back already, though nobody has asked.
  rounds.drop(second);
  for (const dropped of [first, second]) throws(() => rounds.take(dropped), /taken once/);
  equal(rounds.take(third).header.serial, third);
  throws(() => rounds.take(third), /taken once/);
  ok(rounds.isBack(second));
});

Deno.test("Rounds sends what became of caches with the next frame, or alone", () => {
  const { rounds, ring, answer } = world();
  rounds.flush();
  equal(ring.waiting(1), 0, "there is nothing to tell");
  rounds.log.add({ type: "make", cache: 4 });
  rounds.send({ inputs: [] });
  deepEqual(answer().operations, [{ type: "make", cache: 4 }]);
  rounds.log.add({ type: "free", cache: 4 });
  rounds.flush();
  const { operations, returns } = answer();
  deepEqual([operations, returns], [[{ type: "free", cache: 4 }], false]);
  ok(rounds.receive(0));
  throws(() => rounds.receive(0), { code: "group_broken", message: /what nobody asked for/ });
});

Deno.test("Rounds waits no longer than it may, and takes outcomes in their order alone", () => {
  const { rounds, other, passes } = world();
  const serial = rounds.send({ inputs: [] });
  passes(100);
  ok(!rounds.wait(serial, 0, TIME));
  passes(1);
  throws(() => rounds.wait(serial, 0, TIME), { code: "group_broken", message: /on its way/ });
  other.send(encodeHeader({ type: "outcome", serial: 5, drawn: [], blocksMax: null }));
  throws(() => rounds.wait(serial, 0, TIME), { message: /the outcome of step 5/ });
});

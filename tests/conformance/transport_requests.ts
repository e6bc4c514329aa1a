/** What every transport promises of requests; part of the suite in `transport.ts`. */
import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { MIB } from "../../core/units.ts";
import { MESSAGE_BYTES_MAX } from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import { bytes, failsWith, isSame, type PairTest, PATIENT, patterned, text } from "./transport.ts";

/** Declares the tests of requests. */
export function requestConformance(test: PairTest): void {
  test("a request is answered, by another node and by one's own", async ({ a, b }) => {
    for (const node of [a, b]) {
      node.handle("/who", (body, from) => {
        const answer = `${text(body)} from ${from} to ${node.self}`;
        return Promise.resolve(bytes(answer));
      });
    }
    const ask = async (peer: NodeId) => text(await a.request(peer, "/who", bytes("hi"), PATIENT));
    assert.equal(await ask(b.self), `hi from ${a.self} to ${b.self}`);
    assert.equal(await ask(a.self), `hi from ${a.self} to ${a.self}`);
  });

  test("requests at once get each its own answer, in whatever order", async ({ a, b }) => {
    const waiting = new Map<string, () => void>();
    b.handle("/echo", async (body) => {
      await new Promise<void>((resolve) => waiting.set(text(body), resolve));
      return body;
    });
    const names = ["1", "2", "3"];
    const answers = names.map((one) => a.request(b.self, "/echo", bytes(one), PATIENT));
    await eventually("all have come", () => waiting.size === names.length);
    for (const one of names.toReversed()) waiting.get(one)?.();
    assert.deepEqual((await Promise.all(answers)).map(text), names);
  });

  test("a handler that takes long holds nobody back", async ({ a, b }) => {
    const never = Promise.withResolvers<Uint8Array>();
    b.handle("/slow", () => never.promise);
    b.handle("/fast", (body) => Promise.resolve(body));
    const slow = Array.from(
      { length: 40 },
      () => a.request(b.self, "/slow", bytes("."), PATIENT),
    );
    for (let n = 0; n < 10; n++) {
      assert.equal(text(await a.request(b.self, "/fast", bytes(`${n}`), PATIENT)), `${n}`);
    }
    never.resolve(bytes("at last"));
    for (const answer of await Promise.all(slow)) assert.equal(text(answer), "at last");
  });

  test("many requests of both nodes at once keep their answers apart", async ({ a, b }) => {
    for (const node of [a, b]) {
      node.handle("/echo", (body) => Promise.resolve(bytes(`${node.self} ${text(body)}`)));
    }
    const ways = [[a, b], [b, a]] as const;
    await Promise.all(ways.flatMap(([from, to]) =>
      Array.from({ length: 500 }, async (_, n) => {
        const answer = await from.request(to.self, "/echo", bytes(`${n}`), PATIENT);
        assert.equal(text(answer), `${to.self} ${n}`);
      })
    ));
  });

  test("a big request and a big answer arrive whole, and small ones meanwhile", async (pair) => {
    const { a, b } = pair;
    const big = patterned(8 * MIB);
    b.handle("/echo", (body) => Promise.resolve(body));
    const answer = a.request(b.self, "/echo", big, PATIENT);
    assert.equal(text(await a.request(b.self, "/echo", bytes("small"), PATIENT)), "small");
    assert.ok(isSame(await answer, big), "every byte is as it was");
  });

  test("an empty request may have an empty answer", async ({ a, b }) => {
    b.handle("/empty", (body) => Promise.resolve(body));
    const answer = await a.request(b.self, "/empty", new Uint8Array(0), PATIENT);
    assert.equal(answer.length, 0);
  });

  test("a node that is not there, or knows no such protocol, is unreachable", async ({ a, b }) => {
    const nobody = NodeId.parse("12D3KooWNobody");
    await failsWith(a.request(nobody, "/x", bytes("."), PATIENT), "node_unreachable");
    await failsWith(a.request(b.self, "/x", bytes("."), PATIENT), "node_unreachable");
    const stop = b.handle("/x", (body) => Promise.resolve(body));
    await a.request(b.self, "/x", bytes("."), PATIENT);
    stop();
    await failsWith(a.request(b.self, "/x", bytes("."), PATIENT), "node_unreachable");
  });

  test("an answer that does not come in time is `timed_out`", async ({ a, b }) => {
    const never = Promise.withResolvers<Uint8Array>();
    b.handle("/never", () => never.promise);
    await failsWith(a.request(b.self, "/never", bytes("."), { timeoutMs: 20 }), "timed_out");
    never.resolve(bytes("too late"));
  });

  test("what a handler throws reaches the asker, and ends nothing else", async ({ a, b }) => {
    b.handle("/own", () => Promise.reject(new AppError("conflict", "taken", { hint: "wait" })));
    b.handle("/defect", () => {
      throw new TypeError("boom");
    });
    const own = await a.request(b.self, "/own", bytes("."), PATIENT).catch((thrown) => thrown);
    assert.ok(own instanceof AppError);
    assert.deepEqual(own.toInfo(), { code: "conflict", message: "taken", hint: "wait" });
    await failsWith(a.request(b.self, "/defect", bytes("."), PATIENT), "internal");
    await failsWith(a.request(b.self, "/own", bytes("."), PATIENT), "conflict");
  });

  test("a request too large is refused before it is sent", async ({ a, b }) => {
    b.handle("/x", (body) => Promise.resolve(body));
    const tooLarge = new Uint8Array(MESSAGE_BYTES_MAX + 1);
    await failsWith(a.request(b.self, "/x", tooLarge, PATIENT), "payload_too_large");
  });
}

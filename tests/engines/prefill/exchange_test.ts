/** Prompts that one engine reads for another: the table of the specification, §14.3. */
import assert from "node:assert/strict";
import { TaskId } from "../../../core/ids.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import { SERVED_PREFILLS_MAX } from "../../../engines/prefill/served_prefills.ts";
import { ensureSetup, KV_DTYPES } from "../../../ffi/mod.ts";
import {
  answeredAlone as alone,
  longPrompt as long,
  prefillEngine as engine,
  type PrefillEngineOptions,
} from "../../support/prefill_engines.ts";
import { PrefillPair } from "../../support/prefill_pair.ts";
import { ask } from "../../support/test_node.ts";

await ensureSetup();

const pairOf = (own: PrefillEngineOptions = {}, other: PrefillEngineOptions = own) =>
  new PrefillPair(engine(own), engine(other));

for (const kvDtype of KV_DTYPES) {
  Deno.test(`a prompt that is read elsewhere gives the same tokens (${kvDtype})`, () => {
    using pair = pairOf({ kvDtype });
    const payload = long("once");
    const { ids, request, end, finish, progress } = pair.answer(payload);
    assert.deepEqual(ids, alone(payload, { kvDtype }));
    assert.deepEqual(end, {}, "all of it came");
    const { promptTokens } = finish.usage;
    assert.equal(request?.startPos, 0);
    assert.equal(request?.stopPos, Math.floor((promptTokens - 1) / 32) * 32);
    assert.equal(progress.at(-1)?.[0], promptTokens);
    assert.ok(progress.length > 3, "its client was told on the way");
    const told = progress.map(([processed]) => processed);
    assert.deepEqual(told, told.toSorted((a, b) => a - b));
  });
}

Deno.test("the engine that asks computes no more than the last block", () => {
  using pair = pairOf();
  const { finish, request } = pair.answer(long("once"));
  const { prefillTokens } = pair.decode.stats();
  assert.equal(prefillTokens, finish.usage.promptTokens - (request?.stopPos ?? 0));
  assert.equal(pair.prefill.stats().generatedTokens, 0);
});

Deno.test("an exact repeat asks nobody, and is computed by nobody", () => {
  using pair = pairOf();
  const payload = long("once");
  const first = pair.answer(payload);
  const read = pair.prefill.stats().prefillTokens;
  const again = pair.answer(payload);
  assert.equal(again.request, undefined);
  assert.deepEqual(again.ids, first.ids);
  assert.equal(pair.prefill.stats().prefillTokens, read);
});

Deno.test("of a prompt that both know in part, no part is computed or sent twice", () => {
  using pair = pairOf();
  const first = pair.answer(long("once", 300));
  const before = pair.prefill.stats().prefillTokens;
  const payload = long("once", 380);
  const { ids, request, bytes, finish } = pair.answer(payload);
  assert.deepEqual(ids, alone(payload));
  assert.equal(request, undefined, "what is missing is short");
  assert.ok(bytes === 0 && finish.usage.cachedTokens > 0 && first.bytes > 0);
  assert.equal(pair.prefill.stats().prefillTokens, before);
});

Deno.test("what the other has already is sent without being computed", () => {
  using pair = pairOf();
  const payload = long("once");
  const first = pair.answer(payload);
  const before = pair.prefill.stats().prefillTokens;
  pair.decode.clearPrefixCache();
  const again = pair.answer(payload);
  assert.deepEqual(again.ids, first.ids);
  // Fewer and longer records.
  assert.ok(again.bytes > 0.99 * first.bytes && again.bytes <= first.bytes);
  // Its last token at most, which is computed because a request always has one.
  assert.ok(pair.prefill.stats().prefillTokens - before <= 32);
});

Deno.test("startPos is where the asker's own keys end, at a block's end", () => {
  using pair = pairOf({ parts: { contextTokens: 4_096 } });
  pair.answer({ ...long("once", 40), maxTokens: 1 });
  const { request, ids, bytes } = pair.answer(long("once", 400));
  pair.decode.clearPrefixCache();
  const all = pair.answer(long("once", 400));
  assert.ok(request && request.startPos > 0 && request.startPos % 32 === 0);
  assert.deepEqual(ids, alone(long("once", 400), { parts: { contextTokens: 4_096 } }));
  const [sent, asked] = [bytes / all.bytes, 1 - request.startPos / request.stopPos];
  assert.ok(Math.abs(sent - asked) < 0.01, `${sent} of the bytes for ${asked} of the blocks`);
});

Deno.test("a connection that breaks midway leaves what came, and the same tokens", () => {
  for (const share of [0, 0.3, 0.7]) {
    using pair = pairOf();
    const payload = long("once");
    const total = pair.answer(long("other")).bytes;
    const error = { code: "node_unreachable" as const, message: "cut" };
    const onNews = (bytes: number) => bytes >= share * total ? { error } : undefined;
    const { ids, end, finish } = pair.answer(payload, { onNews });
    assert.deepEqual(ids, alone(payload));
    assert.equal(end?.error?.message, "cut");
    assert.ok(finish.usage.completionTokens === 12);
    assert.ok(!pair.prefill.hasWork(), "nobody is read for in vain");
  }
});

Deno.test("an engine of another model or cache refuses by name, and the asker goes on", () => {
  for (
    const [other, named] of [
      [{ weights: "v" }, /weights is w, v needed/],
      [{ kvDtype: "q8" }, /kvType is float16, q8 needed/],
    ] as const
  ) {
    using pair = pairOf({}, other);
    const payload = long("once");
    const { ids, end, bytes } = pair.answer(payload);
    assert.match(end?.error?.message ?? "", named);
    assert.equal(bytes, 0);
    assert.deepEqual(ids, alone(payload));
  }
});

Deno.test("positions that are no whole blocks, or not there, are refused by name", () => {
  using pair = pairOf();
  const asking = (change: object) =>
    pair.answer(long(`once ${JSON.stringify(change)}`), {
      asking: (request) => ({ ...request, ...change }),
    }).end?.error?.message ?? "";
  assert.match(asking({ startPos: 12 }), /positions 12 to \d+ .* whole blocks of 32/);
  assert.match(asking({ stopPos: 18 }), /positions 0 to 18/);
  assert.match(asking({ stopPos: 2016 }), /positions 0 to 2016/);
  assert.match(asking({ startPos: 1024, stopPos: 1024 }), /positions 1024 to 1024/);
});

Deno.test("a short prompt, and one that keeps nothing, are read where they are", () => {
  using pair = pairOf();
  assert.equal(pair.answer(ask("hi", { maxTokens: 2 })).request, undefined);
  assert.equal(pair.answer({ ...long("once"), usePrefixCache: false }).request, undefined);
});

Deno.test("while a prompt is read elsewhere others are answered, and it sleeps when there are none", () => {
  const decode = engine();
  const [waits, other] = ["waits", "other"].map((id) => TaskId.parse(id));
  assert.ok(waits && other);
  decode.submit({ taskId: waits, payload: long("once"), prefill: {} });
  const wanted = [...decode.step()].map(([, { type }]) => type);
  assert.deepEqual(wanted, ["prefillWanted"]);
  assert.ok(!decode.hasWork(), "it waits for nothing that it could do");
  decode.submit({ taskId: other, payload: ask("hi", { maxTokens: 4 }) });
  const ends: TaskId[] = [];
  while (decode.hasWork()) {
    for (const [taskId, { type }] of decode.step()) if (type === "finished") ends.push(taskId);
  }
  assert.deepEqual(ends, [other]);
  decode.cancel(waits);
  assert.ok(decode.hasWork());
  assert.deepEqual([...decode.step()].map(([, { type }]) => type), ["prefillFlow", "cancelled"]);
  assert.ok(!decode.hasWork());
  decode.close();
});

Deno.test("an engine reads for a few others at once, beside its own, and gives up who is gone", () => {
  const prefill = engine();
  const dir = Deno.makeTempDirSync();
  const { prefills } = prefill;
  assert.ok(prefills);
  const decode = engine();
  const ids = [...Array(SERVED_PREFILLS_MAX).keys()].map((n) => TaskId.parse(`t-${n}`));
  const request = (() => {
    decode.submit({ taskId: TaskId.parse("d"), payload: long("once"), prefill: {} });
    const [first] = [...decode.step()];
    assert.ok(first?.[1].type === "prefillWanted");
    return first[1].request;
  })();
  const ring = (taskId: TaskId) => ({ path: `${dir}/${taskId}`, bytes: RING_BYTES_MIN });
  for (const taskId of ids) prefills.serve({ taskId, request, ring: ring(taskId) });
  const more = TaskId.parse("more");
  assert.throws(
    () => prefills.serve({ taskId: more, request, ring: ring(more) }),
    /8 prompts are under way, at most 8 may be/,
  );
  const own = TaskId.parse("own");
  prefill.submit({ taskId: own, payload: ask("hi", { maxTokens: 2 }) });
  for (const taskId of ids) prefills.flow(taskId, { bytes: 0, end: {} });
  const ends: string[] = [];
  while (prefill.hasWork()) {
    for (const [taskId, { type }] of prefill.step()) {
      if (type === "finished" || type === "cancelled") ends.push(`${taskId} ${type}`);
    }
  }
  assert.deepEqual(ends, [...ids.map((id) => `${id} cancelled`), "own finished"]);
  assert.deepEqual([...Deno.readDirSync(dir)], [], "no file is left");
  prefill.close();
  decode.close();
  Deno.removeSync(dir);
});

Deno.test("an engine whose keys cannot travel serves nobody and asks nobody", () => {
  using pair = pairOf({ parts: { prefill: undefined as never } });
  assert.equal(pair.decode.prefills, undefined);
  assert.equal(pair.answer(long("once")).request, undefined);
});

Deno.test("a prompt that the prefix cache has no room for is read where it is, and once", () => {
  const answered = (prefixCacheBytes: number) => {
    using pair = new PrefillPair(engine({ parts: { prefixCacheBytes } }), engine());
    const { request, finish: { usage: { promptTokens } } } = pair.answer(long("once"));
    const { prefillTokens } = pair.decode.stats();
    return { stopPos: request?.stopPos, promptTokens, prefillTokens };
  };
  const few = answered(200_000);
  assert.equal(few.stopPos, undefined);
  assert.equal(few.prefillTokens, few.promptTokens);
  const many = answered(2 ** 30);
  assert.equal(many.prefillTokens, many.promptTokens - (many.stopPos ?? 0));
});

/** Prompts between engines beside their own work: steps that break, cancels, and too little memory. */
import assert from "node:assert/strict";
import { AppError } from "../../../core/errors.ts";
import { TaskId } from "../../../core/ids.ts";
import type { PrefillRequest } from "../../../core/prefill.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import type { Decoder, PendingStep } from "../../../engines/decoder.ts";
import type { KvBytes } from "../../../engines/prefill/kv_bytes.ts";
import type { TextEngine } from "../../../engines/text_engine.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { changed } from "../../support/changed.ts";
import {
  answeredAlone,
  answersOf,
  longPrompt,
  prefillEngine,
  type PrefillEngineOptions,
} from "../../support/prefill_engines.ts";
import { PrefillPair } from "../../support/prefill_pair.ts";
import { ask } from "../../support/test_node.ts";

await ensureSetup();

const id = (name: string) => TaskId.parse(name);

const own = (text: string) => ask(text, { maxTokens: 20, sampling: { temperature: 0 } });

/** Of its steps two are under way at a time, and each is done when it was waited for twice. */
function lagging(decoder: Decoder): Decoder {
  const launch: Decoder["launch"] = (inputs): PendingStep => {
    const { isDone: _, ...step } = decoder.launch(inputs);
    let looks = 0;
    const isDone = () => ++looks > 1;
    return {
      get isDone() {
        return looks > 1;
      },
      wait: isDone,
      collect: () => step.collect(),
    };
  };
  return changed(decoder, { stepsAtOnce: 2, launch });
}

/** Every third step of several sequences breaks off. */
function breaking(decoder: Decoder): Decoder {
  let steps = 0;
  const launch: Decoder["launch"] = (inputs) => {
    if (inputs.length > 1 && ++steps % 3 === 0) throw new Error("out of luck");
    return decoder.launch(inputs);
  };
  return changed(decoder, { launch });
}

/** What an engine asks others for a prompt. */
function requestFor(decode: TextEngine, taskId = id("asked")): PrefillRequest {
  decode.submit({ taskId, payload: longPrompt("once"), prefill: {} });
  const [first] = [...decode.step()];
  assert.ok(first?.[1].type === "prefillWanted");
  return first[1].request;
}

/** An engine that is asked for a prompt by another, whose bytes go to a file in `dir`. */
async function serving(
  options: PrefillEngineOptions,
  run: (engine: TextEngine, taskId: TaskId) => void,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  const [decode, prefill] = [prefillEngine(), prefillEngine(options)];
  try {
    const taskId = id("transfer");
    const ring = { path: `${dir}/ring`, bytes: RING_BYTES_MIN };
    prefill.prefills?.serve({ taskId, request: requestFor(decode), ring });
    run(prefill, taskId);
    assert.deepEqual(prefill.stats().running, 0);
  } finally {
    prefill.close();
    decode.close();
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("a prompt that is read for another goes through steps that break off", () => {
  using pair = new PrefillPair(prefillEngine(), prefillEngine({ over: breaking }));
  const [payload, beside] = [longPrompt("once"), own("The river")];
  pair.prefill.submit({ taskId: id("own"), payload: beside });
  const said: number[] = [];
  const { ids, end } = pair.answer(payload, {
    beside: ([, response]) => {
      if (response.type !== "chunk") return;
      if (response.chunk.type === "Token") said.push(response.chunk.tokenId);
    },
  });
  assert.deepEqual(end, {}, "all of it came");
  assert.deepEqual(ids, answeredAlone(payload));
  assert.deepEqual(said, answeredAlone(beside));
});

Deno.test("a prompt whose step breaks off when it is alone fails for who asked, and for no other", () => {
  const unlucky = (decoder: Decoder) => {
    const launch: Decoder["launch"] = (inputs) => {
      if (inputs.some(({ cache }) => cache.offset > 500)) throw new Error("out of luck");
      return decoder.launch(inputs);
    };
    return changed(decoder, { launch });
  };
  using pair = new PrefillPair(prefillEngine(), prefillEngine({ over: unlucky }));
  const payload = longPrompt("once");
  const { ids, end, bytes } = pair.answer(payload);
  assert.match(end?.error?.message ?? "", /out of luck/);
  assert.ok(bytes > 0, "what was computed before it came");
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("with several steps under way, a prompt that is read for another is the same", () => {
  using pair = new PrefillPair(prefillEngine({ over: lagging }), prefillEngine({ over: lagging }));
  const payload = longPrompt("once");
  const { ids, end } = pair.answer(payload);
  assert.deepEqual(end, {});
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("nothing is passed on that a step has yet to compute on some rank", () => {
  const late = (decoder: Decoder) => {
    const { kvBytes } = decoder;
    assert.ok(kvBytes);
    let [computed, read] = [0, 0];
    const launch: Decoder["launch"] = (inputs) => {
      const { wait, collect } = lagging(decoder).launch(inputs);
      return {
        isDone: false,
        wait,
        collect: () => {
          computed += inputs.reduce((sum, { ids }) => sum + ids.length, 0);
          return collect();
        },
      };
    };
    const readBytes: KvBytes["read"] = (layer, blocks) => {
      if (layer === 0) read += blocks.length * decoder.blockPositions;
      assert.ok(read <= computed, `${read} positions are read of ${computed}`);
      return kvBytes.read(layer, blocks);
    };
    const kv = changed(kvBytes, { read: readBytes });
    return changed(decoder, { stepsAtOnce: 2, launch, kvBytes: kv });
  };
  using pair = new PrefillPair(prefillEngine(), prefillEngine({ over: late }));
  const payload = longPrompt("once");
  const { ids, end } = pair.answer(payload);
  assert.deepEqual(end, {});
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("a prompt whose keys and values cannot be had ends here, and is read where it was asked", async () => {
  const lost = (decoder: Decoder) => {
    const { kvBytes } = decoder;
    assert.ok(kvBytes);
    let count = 0;
    const read: KvBytes["read"] = (layer, blocks) => {
      if (++count < 4) return kvBytes.read(layer, blocks);
      throw new Error("they are lost");
    };
    return changed(decoder, { kvBytes: changed(kvBytes, { read }) });
  };
  await serving({ over: lost }, (prefill, taskId) => {
    const told: string[] = [];
    while (prefill.hasWork()) {
      for (const [id, { type }] of prefill.step()) {
        assert.equal(id, taskId);
        if (type !== told.at(-1)) told.push(type);
      }
    }
    assert.deepEqual(told, ["prefillFlow", "finished", "prefillFlow"]);
    prefill.clearPrefixCache();
    assert.equal(prefill.cacheBytes, 0);
  });
  using pair = new PrefillPair(prefillEngine(), prefillEngine({ over: lost }));
  const payload = longPrompt("once");
  const { ids, end, bytes } = pair.answer(payload);
  assert.match(end?.error?.message ?? "", /they are lost/);
  assert.ok(bytes > 0);
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("an engine without its other ranks ends, though only bytes of theirs are awaited", () => {
  const broken = (decoder: Decoder) => {
    const { kvBytes } = decoder;
    assert.ok(kvBytes);
    const wait = () => {
      throw new AppError("group_broken", "gone");
    };
    const read: KvBytes["read"] = (layer, blocks) => ({ ...kvBytes.read(layer, blocks), wait });
    return changed(decoder, { kvBytes: changed(kvBytes, { read }) });
  };
  using pair = new PrefillPair(prefillEngine(), prefillEngine({ over: broken }));
  const payload = longPrompt("once");
  const deaths: unknown[] = [];
  const onDeath = (cause: unknown) => deaths.push((cause as { code?: string }).code);
  const { ids } = pair.answer(payload, { onDeath });
  assert.deepEqual(deaths, ["group_broken"]);
  assert.deepEqual(ids, answeredAlone(payload));
});

Deno.test("whoever asked goes while a step is under way: nothing of it is told or kept open", () => {
  return serving({ over: lagging }, (prefill, taskId) => {
    const ends: string[] = [];
    const look = () => {
      for (const [, { type }] of prefill.step()) if (type !== "prefillFlow") ends.push(type);
    };
    look();
    assert.ok(prefill.stats().running > 0);
    prefill.prefills?.flow(taskId, { bytes: 0, end: {} });
    while (prefill.hasWork()) look();
    assert.deepEqual(ends, ["cancelled"]);
    prefill.clearPrefixCache();
    assert.equal(prefill.cacheBytes, 0);
  });
});

Deno.test("keys and values that nobody comes for are given up when a request needs the memory", () => {
  const probe = prefillEngine();
  probe.submit({ taskId: id("a"), payload: { ...own("hi"), maxTokens: 1 } });
  answersOf(probe);
  const blockBytes = probe.cacheBytes;
  probe.close();
  // Never is there room for a layer of a block.
  const stuck = (decoder: Decoder) => {
    const { kvBytes } = decoder;
    assert.ok(kvBytes);
    return changed(decoder, {
      kvBytes: changed(kvBytes, { layerBytes: () => RING_BYTES_MIN }),
    });
  };
  return serving({ over: stuck, parts: { kvBudgetBytes: 60 * blockBytes } }, (prefill) => {
    while (prefill.hasWork()) [...prefill.step()];
    prefill.clearPrefixCache();
    assert.ok(prefill.cacheBytes > 40 * blockBytes, "they wait to be sent");
    const payload = longPrompt("other");
    prefill.submit({ taskId: id("own"), payload });
    assert.deepEqual(answersOf(prefill).get(id("own")), answeredAlone(payload));
  });
});

Deno.test("a prompt that comes from elsewhere gives its memory up for the only one that runs", () => {
  const dir = Deno.makeTempDirSync();
  const probe = prefillEngine();
  probe.submit({ taskId: id("a"), payload: { ...own("hi"), maxTokens: 1 } });
  answersOf(probe);
  const kvBudgetBytes = 60 * probe.cacheBytes;
  probe.close();
  const [decode, prefill] = [prefillEngine({ parts: { kvBudgetBytes } }), prefillEngine()];
  const ring = { path: `${dir}/ring`, bytes: RING_BYTES_MIN };
  prefill.prefills?.serve({ taskId: id("transfer"), request: requestFor(decode), ring });
  let bytes = 0;
  while (prefill.hasWork()) {
    for (const [, response] of prefill.step()) {
      if (response.type === "prefillFlow") bytes = response.bytes;
    }
  }
  // All but its last words.
  decode.prefills?.flow(id("asked"), { bytes: bytes - 10, ring });
  while (decode.hasWork()) [...decode.step()];
  assert.ok(decode.cacheBytes > kvBudgetBytes / 2);
  decode.submit({ taskId: id("other"), payload: longPrompt("other") });
  const answers = answersOf(decode);
  assert.deepEqual(answers.get(id("other")), answeredAlone(longPrompt("other")));
  assert.deepEqual(answers.get(id("asked")), answeredAlone(longPrompt("once")));
  decode.close();
  prefill.close();
  Deno.removeSync(dir, { recursive: true });
});

Deno.test("what another instance read is no hit of the prefix cache", () => {
  using pair = new PrefillPair(
    ...([1, 2].map(() => prefillEngine({ parts: { contextTokens: 4_096 } })) as [
      TextEngine,
      TextEngine,
    ]),
  );
  const fresh = pair.answer({ ...longPrompt("once", 40), maxTokens: 1 });
  const { finish, request } = pair.answer(longPrompt("once", 400));
  assert.ok(request && request.startPos > 0);
  assert.equal(fresh.finish.usage.cachedTokens, 0);
  assert.equal(finish.usage.cachedTokens, request.startPos);
  assert.equal(finish.stats?.prefixCacheHit, "partial");
  assert.equal(pair.decode.stats().cachedTokens, request.startPos);
  assert.ok((finish.stats?.promptTokensPerSecond ?? 0) > 0);
  const again = pair.answer(longPrompt("once", 400));
  assert.equal(again.finish.usage.cachedTokens, again.finish.usage.promptTokens - 1);
  assert.equal(again.finish.stats?.prefixCacheHit, "exact");
});

Deno.test("by itself an engine asks another that is estimated to be sooner, and no other", () => {
  /** Whether one is asked that is so many times as fast. */
  const isAsked = (times: number | undefined, bitsPerSecond?: number) => {
    let ms = 0;
    const parts = { now: () => ms += 50 };
    using pair = new PrefillPair(prefillEngine({ mode: "auto", parts }), prefillEngine());
    pair.decode.warmup();
    const pace = pair.decode.prefills?.tokensPerSecond;
    assert.ok(pace, "the warm-up has measured it");
    const tokensPerSecond = times === undefined ? undefined : times * pace;
    const { request, ids } = pair.answer(longPrompt("once"), {}, {
      tokensPerSecond,
      bitsPerSecond,
    });
    assert.deepEqual(ids, answeredAlone(longPrompt("once")));
    return request !== undefined;
  };
  const [fast, slow] = [1e11, 1e4];
  assert.ok(isAsked(10, fast));
  assert.ok(!isAsked(0.9, fast), "it reads more slowly");
  assert.ok(!isAsked(10, slow), "the way there is slow");
  assert.ok(!isAsked(10), "nobody has measured the way there");
  assert.ok(!isAsked(undefined, fast), "nobody has measured how fast it reads");
});

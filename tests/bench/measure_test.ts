import { deepEqual, equal, ok } from "node:assert/strict";
import { type BenchSettings, measure } from "../../bench/measure.ts";
import { AppError } from "../../core/errors.ts";
import { ScriptedEndpoint } from "./scripted_endpoint.ts";

const ONE: BenchSettings = {
  lengths: [{ pp: 50, tg: 5 }],
  concurrency: [1],
  repeat: 1,
  warmup: 0,
};

const run = (endpoint: ScriptedEndpoint, settings: Partial<BenchSettings> = {}) =>
  measure({ ...ONE, ...settings }, { ask: endpoint.ask, clock: endpoint.clock });

const isMeasured = ({ maxTokens }: { maxTokens: number }) => maxTokens > 1;

Deno.test("A run is timed from its sending to each piece and to its end", async () => {
  const { runs, sizes, stop } = await run(new ScriptedEndpoint());
  equal(stop, undefined);
  deepEqual(sizes, [{ askedTokens: 50, words: 40, reachedTokens: 50 }]);
  deepEqual(runs, [{
    pp: 50,
    tg: 5,
    concurrency: 1,
    repeat: 0,
    index: 0,
    answer: {
      promptTokens: 50,
      cachedTokens: 0,
      completionTokens: 5,
      finishReason: "length",
      piecesMs: [100, 110, 120, 130, 140],
      endToEndMs: 140,
    },
  }]);
});

Deno.test("Cells come in order, sizes are sought once, no prompt comes twice", async () => {
  const endpoint = new ScriptedEndpoint();
  const { runs } = await run(endpoint, {
    lengths: [{ pp: 20, tg: 2 }, { pp: 20, tg: 3 }, { pp: 30, tg: 2 }],
    concurrency: [1, 2],
    repeat: 2,
    warmup: 1,
  });
  const keys = runs.map((run) => [run.pp, run.tg, run.concurrency, run.repeat, run.index].join());
  deepEqual(keys.slice(0, 7), [
    "20,2,1,0,0",
    "20,2,1,1,0",
    "20,2,2,0,0",
    "20,2,2,0,1",
    "20,2,2,1,0",
    "20,2,2,1,1",
    "20,3,1,0,0",
  ]);
  equal(runs.length, 3 * (2 + 4));
  equal(endpoint.asked.filter((question) => !isMeasured(question)).length, 4);
  equal(endpoint.asked.filter(isMeasured).length, runs.length + 1);
  equal(new Set(endpoint.asked.map(({ prompt }) => prompt)).size, endpoint.asked.length);
});

Deno.test("A failed run is a row with its error, and the others go on", async () => {
  const endpoint = new ScriptedEndpoint();
  const failure = new AppError("runner_failed", "Runner died", { hint: "try again" });
  endpoint.before = (_, place) => {
    if (place === 3) throw failure;
  };
  const { runs, stop } = await run(endpoint, { repeat: 3 });
  equal(stop, undefined);
  deepEqual(runs.map((run) => "error" in run ? run.error : "good"), [
    "good",
    failure.toInfo(),
    "good",
  ]);
});

Deno.test("An instance that was lost is waited for, one that only refuses is not", async () => {
  for (const [code, waits] of [["runner_failed", 1], ["node_lost", 1], ["internal", 0]] as const) {
    const endpoint = new ScriptedEndpoint();
    endpoint.before = (question) => {
      if (isMeasured(question)) throw new AppError(code, "No");
    };
    const { ask, clock } = endpoint;
    let waited = 0;
    const recover = () => Promise.resolve(void waited++);
    const { runs } = await measure(ONE, { ask, clock, recover });
    equal(runs.length, 1);
    equal(waited, waits, code);
  }
});

Deno.test("An answer without text cannot be timed, and says so", async () => {
  const endpoint = new ScriptedEndpoint();
  endpoint.before = (question) => isMeasured(question) ? 0 : undefined;
  const { runs: [only] } = await run(endpoint);
  ok(only && "error" in only);
  equal(only.error.message, "Cannot time an answer of 0 tokens: it has no text, some needed");
});

Deno.test("A size that cannot be made fails its own cells only", async () => {
  const endpoint = new ScriptedEndpoint();
  const tooLong = new AppError("context_length_exceeded", "Prompt is too long");
  endpoint.before = ({ prompt }) => {
    if (prompt.split(" ").length > 100) throw tooLong;
  };
  const lengths = [{ pp: 500, tg: 5 }, { pp: 50, tg: 5 }];
  const { runs, sizes, stop } = await run(endpoint, { lengths, repeat: 2, warmup: 1 });
  equal(stop, undefined);
  deepEqual(sizes.map(({ askedTokens }) => askedTokens), [50]);
  const codes = runs.map((run) => "error" in run ? run.error.code : "good");
  deepEqual(codes, ["context_length_exceeded", "context_length_exceeded", "good", "good"]);
});

for (const code of ["instance_removed", "model_not_found", "cancelled", "unauthorized"] as const) {
  Deno.test(`${code} ends the bench with what was measured before`, async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.before = (_, place) => {
      if (place === 3) throw new AppError(code, "It is over");
    };
    const { runs, stop } = await run(endpoint, { repeat: 5 });
    equal(stop?.code, code);
    equal(runs.filter((run) => "answer" in run).length, 1);
    equal(endpoint.asked.length, 4);
    // What the user broke off did not fail.
    equal(runs.length, code === "cancelled" ? 1 : 2);
  });
}

Deno.test("One broken connection is a failed run, two in a row are the end", async () => {
  const endpoint = new ScriptedEndpoint();
  const broken = new Set([3, 5, 6]);
  endpoint.before = (_, place) => {
    if (broken.has(place)) throw new AppError("node_unreachable", "Nobody is there");
  };
  const { runs, stop } = await run(endpoint, { repeat: 9 });
  equal(stop?.code, "node_unreachable");
  deepEqual(runs.map((run) => "error" in run), [false, true, false, true, true]);
});

Deno.test("Nobody at the address ends the bench at its first question", async () => {
  const endpoint = new ScriptedEndpoint();
  endpoint.before = () => {
    throw new AppError("node_unreachable", "Nobody is there");
  };
  const { runs, stop } = await run(endpoint, { repeat: 9 });
  deepEqual([stop?.code, runs.length, endpoint.asked.length], ["node_unreachable", 0, 1]);
});

Deno.test("An endpoint that reports no usage is not fit", async () => {
  const { ask, clock } = new ScriptedEndpoint();
  const { stop } = await measure(ONE, {
    clock,
    ask: async function* (question) {
      for await (const event of ask(question)) {
        yield event.type === "finish" ? { ...event, usage: undefined } : event;
      }
    },
  });
  equal(stop?.code, "unsupported_parameter");
});

Deno.test("Requests of a batch are sent together and share their start", async () => {
  const endpoint = new ScriptedEndpoint();
  const { runs } = await run(endpoint, { concurrency: [3] });
  // The script's clock is one for all: what a batch took is known, its order is not.
  const ends = runs.map((run) => "answer" in run ? run.answer.endToEndMs : NaN);
  equal(Math.max(...ends), 3 * (50 * 2 + 4 * 10));
  deepEqual(runs.map(({ index }) => index), [0, 1, 2]);
});

Deno.test("A size that is known is not sought again", async () => {
  const endpoint = new ScriptedEndpoint();
  const known = { askedTokens: 50, words: 41, reachedTokens: 51 };
  const { ask, clock } = endpoint;
  const { sizes, runs } = await measure(ONE, { ask, clock, sizes: [known] });
  deepEqual(sizes, [known]);
  deepEqual(endpoint.asked.map(({ maxTokens }) => maxTokens), [5]);
  deepEqual(runs.map((run) => "answer" in run && run.answer.promptTokens), [51]);
});

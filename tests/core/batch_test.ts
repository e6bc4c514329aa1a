import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import {
  type BatchMove,
  type BatchRequest,
  type BatchView,
  nextMove,
  PASSED_MAX,
} from "../../core/batch.ts";
import { FairShare, tenantOf } from "../../core/fair_share.ts";
import { TaskId } from "../../core/ids.ts";

/** A request that decodes, unless `changes` say otherwise. */
function request(id: string, changes: Partial<BatchRequest> = {}): BatchRequest {
  return {
    taskId: TaskId.parse(id),
    client: "",
    arrival: Number(id.replace(/\D/g, "")) || 0,
    pendingTokens: 1,
    isStarted: true,
    lastStep: 0,
    prefixKey: id,
    ...changes,
  };
}

/** A prompt that has not begun. */
const prompt = (id: string, tokens: number, changes: Partial<BatchRequest> = {}) =>
  request(id, { pendingTokens: tokens, isStarted: false, ...changes });

/** A prompt that has its cache. */
const begun = (id: string, tokens: number, changes: Partial<BatchRequest> = {}) =>
  prompt(id, tokens, { isStarted: true, ...changes });

/** One byte for each token, and `free` of them. */
function view(
  { free = Infinity, served = {}, passed = {}, ...changes }: Partial<BatchView> & {
    free?: number;
    served?: Record<string, number>;
    passed?: Record<string, number>;
  },
): BatchView {
  return {
    running: [],
    waiting: [],
    standing: (client) => {
      const turn = (name: string) => ({ served: served[name] ?? 0, passed: passed[name] ?? 0 });
      return { tenant: turn(tenantOf(client)), user: turn(client) };
    },
    fits: (bytes) => bytes <= free,
    bytesFor: (_, tokens) => tokens,
    bytesHeld: () => 0,
    runningMax: 4,
    stepsAtOnce: 1,
    chunkTokens: 100,
    chunkTokensBesideDecode: 40,
    ...changes,
  };
}

/** The move in short. */
function told(move: BatchMove): string {
  if (move.type === "rest") return "rest";
  if (move.type !== "run") return `${move.type} ${move.taskId}`;
  return `run ${move.rows.map(({ taskId, tokens }) => `${taskId}:${tokens}`).join(" ")}`;
}

const next = (changes: Parameters<typeof view>[0]) => told(nextMove(view(changes)));

Deno.test("nextMove() rests when there is nothing to do", () => {
  equal(next({}), "rest");
});

Deno.test("nextMove() admits the first that came while there are places", () => {
  const waiting = [prompt("a2", 10), prompt("a1", 10)];
  equal(next({ waiting }), "admit a1");
  equal(next({ waiting, running: [request("r0")], runningMax: 1 }), "run r0:1");
});

Deno.test("nextMove() admits when there is room for the prompt and a while of everyone's answers", () => {
  const [running, waiting] = [[request("r1")], [prompt("a2", 100)]];
  // 1 + 64 for the one that runs, 100 + 64 for the one that waits.
  equal(next({ running, waiting, free: 229 }), "admit a2");
  equal(next({ running, waiting, free: 228 }), "run r1:1");
  // Alone it is let in: it was seen to fit when it came.
  equal(next({ waiting, free: 0 }), "admit a2");
});

Deno.test("nextMove() lets nobody pass the first of the queue, however little they need", () => {
  const waiting = [prompt("a1", 1000), prompt("a2", 1)];
  equal(next({ waiting, running: [request("r0")], free: 500 }), "run r0:1");
});

Deno.test("nextMove() runs all that decode, and fills the step with a chunk of a prompt", () => {
  const running = [request("r1"), request("r2"), begun("p3", 500)];
  equal(next({ running }), "run r1:1 r2:1 p3:40");
  equal(next({ running: [begun("p3", 500)] }), "run p3:100");
});

Deno.test("nextMove() gives what one prompt leaves of a step to the next", () => {
  const running = [begun("p1", 70), begun("p2", 70), begun("p3", 70)];
  equal(next({ running }), "run p1:70 p2:30");
});

Deno.test("nextMove() starts a prompt when its turn comes, and not before", () => {
  equal(next({ running: [begun("p1", 70), prompt("p2", 70)] }), "start p2");
  equal(next({ running: [begun("p1", 100), prompt("p2", 70)] }), "run p1:100");
});

Deno.test("nextMove() holds back a prompt that begins like one that is computed", () => {
  const same = { prefixKey: "hello" };
  const running = [begun("p1", 70, same), prompt("p2", 70, same), begun("p3", 9)];
  equal(next({ running }), "run p1:70 p3:9");
  equal(next({ running: [request("p1", same), prompt("p2", 70, same)] }), "start p2");
});

Deno.test("nextMove() takes a smaller chunk where memory is short", () => {
  equal(next({ running: [begun("p1", 100)], free: 30 }), "run p1:25");
});

Deno.test("nextMove() takes the memory of the newest for those who decode", () => {
  const running = [request("r1"), request("r2"), begun("p3", 50)];
  equal(next({ running, free: 1 }), "preempt p3");
  equal(next({ running: running.toReversed(), free: 1 }), "preempt p3");
  equal(next({ running: running.slice(0, 2), free: 1 }), "preempt r2");
  equal(next({ running: running.slice(0, 1), free: 1 }), "run r1:1");
  equal(next({ running: running.slice(0, 1), free: 0 }), "fail r1");
});

Deno.test("nextMove() preempts when only prompts are there and none can get on", () => {
  const running = [begun("p1", 50), begun("p2", 50)];
  equal(next({ running, free: 0 }), "preempt p2");
});

Deno.test("nextMove() lets a prompt wait while others decode and there is no memory for it", () => {
  equal(next({ running: [request("r1"), begun("p2", 50)], free: 1 }), "run r1:1");
});

Deno.test("nextMove() prefers the client that had less work, in the queue and in a step", () => {
  const served = { busy: 100, rare: 5 };
  const [busy, rare] = [{ client: "busy" }, { client: "rare" }];
  equal(next({ served, waiting: [prompt("a1", 9, busy), prompt("a2", 9, rare)] }), "admit a2");
  const running = [begun("p1", 80, busy), begun("p2", 80, rare)];
  equal(next({ served, running }), "run p2:80 p1:20");
});

Deno.test("nextMove() gives a client its share of the places", () => {
  const running = ["r1", "r2", "r3", "r4"].map((id) => request(id, { client: "busy" }));
  const waiting = [prompt("a5", 9, { client: "busy" }), prompt("a6", 9, { client: "rare" })];
  equal(next({ running, waiting }), "preempt r4");
  const three = running.slice(0, 3);
  const back = [...waiting, prompt("a4", 9, { client: "busy" })];
  equal(next({ running: three, waiting: back, served: { rare: 1000 } }), "admit a6");
  // Two of four each: nobody has more than its share.
  const even = [request("r1", { client: "busy" }), request("r2", { client: "busy" })];
  const rare = [request("a6", { client: "rare" }), request("a7", { client: "rare" })];
  equal(
    next({ running: [...even, ...rare], waiting: back.slice(0, 1) }),
    "run r1:1 r2:1 a6:1 a7:1",
  );
});

Deno.test("nextMove() drives nobody out for a prompt that has no room then either", () => {
  const running = ["r1", "r2", "r3", "r4"].map((id) => request(id, { client: "busy" }));
  const waiting = [prompt("a5", 1000, { client: "rare" })];
  // 3 × 65 for those who stay, 1064 for the one who comes; the one who goes gives 50 back.
  const bytesHeld = () => 50;
  equal(next({ running, waiting, bytesHeld, free: 300 }), "run r1:1 r2:1 r3:1 r4:1");
  equal(next({ running, waiting, bytesHeld, free: 1208 }), "run r1:1 r2:1 r3:1 r4:1");
  equal(next({ running, waiting, bytesHeld, free: 1209 }), "preempt r4");
});

Deno.test("nextMove() takes the place of one whose memory is enough", () => {
  const running = ["r1", "r2", "r3", "r4"].map((id) => request(id, { client: "busy" }));
  const waiting = [prompt("a5", 1000, { client: "rare" })];
  const bytesHeld = ({ taskId }: BatchRequest) => taskId === "r2" ? 1000 : 50;
  equal(next({ running, waiting, bytesHeld, free: 300 }), "preempt r2");
});

Deno.test("nextMove() gives a tenant no more for naming many users", () => {
  const running = ["r1", "r2", "r3", "r4"].map((id) => request(id, { client: `many/${id}` }));
  const waiting = [prompt("a5", 9, { client: "many/a5" }), prompt("a6", 9, { client: "rare" })];
  equal(next({ running, waiting }), "preempt r4");
  equal(next({ running: running.slice(0, 3), waiting, served: { rare: 10 } }), "admit a6");
  // At their shares, the tenant that had less goes first, however little its user had.
  const served = { many: 50, rare: 40, "many/a5": 0 };
  const even = [
    ...running.slice(0, 2),
    request("b7", { client: "rare" }),
    request("b8", { client: "rare" }),
  ];
  equal(next({ running: even, waiting, served, runningMax: 5 }), "admit a6");
});

Deno.test("nextMove() shares a tenant's places among its users", () => {
  const running = ["r1", "r2", "r3", "r4"].map((id) => request(id, { client: "home/ada" }));
  const waiting = [
    prompt("a5", 9, { client: "home/ada" }),
    prompt("a6", 9, { client: "home/bob" }),
  ];
  equal(next({ running, waiting }), "preempt r4");
  equal(next({ running: running.slice(0, 3), waiting }), "admit a6");
  const served = { "home/ada": 5, "home/bob": 9 };
  equal(next({ waiting, served }), "admit a5");
});

Deno.test("nextMove() puts whom others passed too often first, the most often passed before all", () => {
  const waiting = ["a1", "b2", "c3"].map((id) => prompt(id, 9, { client: id }));
  const served = { a1: 10, b2: 20, c3: 0 };
  const passed = (a1: number, b2: number) => ({ waiting, served, passed: { a1, b2 } });
  equal(next(passed(PASSED_MAX - 1, PASSED_MAX - 1)), "admit c3");
  equal(next(passed(PASSED_MAX, 0)), "admit a1");
  equal(next(passed(PASSED_MAX, PASSED_MAX + 1)), "admit b2");
});

Deno.test("nextMove() reads a prompt first that came long before the others", () => {
  const running = (arrival: number) => [
    begun("p1", 80, { client: "busy", arrival: 1 }),
    begun("p2", 80, { client: "rare", arrival }),
  ];
  const served = { busy: 100, rare: 0 };
  equal(next({ running: running(PASSED_MAX), served }), "run p2:80 p1:20");
  equal(next({ running: running(PASSED_MAX + 1), served }), "run p1:80 p2:20");
});

/** Most that wait at once. */
const QUEUED = 256;

/** Who is admitted, one after the other, while `arrivals(i)` of clients come before each. */
function admissions(count: number, arrivals: (index: number) => readonly string[]) {
  const share = new FairShare();
  const admitted: { client: string; waited: number }[] = [];
  let waiting: BatchRequest[] = [];
  for (let i = 0, arrival = 0; i < count; i++) {
    for (const client of arrivals(i)) {
      if (waiting.length >= QUEUED) break;
      waiting.push(prompt(`t${arrival}`, i, { client, arrival: arrival++ }));
      share.arrive(client);
    }
    const move = nextMove(view({ waiting, standing: (client) => share.standing(client) }));
    if (move.type !== "admit") continue;
    const run = waiting.find(({ taskId }) => taskId === move.taskId);
    ok(run);
    waiting = without(waiting, run);
    admitted.push({ client: run.client, waited: i - run.pendingTokens });
    share.admitted(run.client, waiting.map(({ client }) => client));
    share.charge(run.client, { read: 10, generated: 0 });
    share.leave(run.client);
  }
  return admitted;
}

Deno.test("nextMove() lets no request starve behind ever-new clients and ever-new users", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom("new", "home/new"),
      fc.constantFrom("old", "home/old"),
      (perAdmission, newcomer, old) => {
        const arrivals = (i: number) => [
          // It had work while another was there, and asks again before its first is over.
          ...(i === 0 ? [old, "other"] : i === 1 ? [old, old] : []),
          ...Array.from({ length: perAdmission }, (_, n) => `${newcomer}${i}.${n}`),
        ];
        // Those who wait as long may go first, each once; then come the client's own, one by one.
        const longest = 3 * (PASSED_MAX + QUEUED);
        const admitted = admissions(longest + 2, arrivals);
        const waits = admitted.filter(({ client }) => client === old).map(({ waited }) => waited);
        equal(waits.length, 3, `all three, after ${waits}`);
      },
    ),
    { numRuns: 8 },
  );
});

Deno.test("nextMove() gives as much to who asks one by one as to who has many waiting", () => {
  const share = new FairShare();
  const had = new Map<string, number>();
  let [waiting, arrival]: [BatchRequest[], number] = [[], 0];
  const ask = (client: string, tokens: number) => {
    waiting.push(prompt(`t${arrival}`, tokens, { client, arrival: arrival++ }));
    share.arrive(client);
  };
  for (let i = 0; i < 50; i++) ask("many", 10);
  ask("one by one", 500);
  for (let i = 0; i < 1020; i++) {
    const move = nextMove(view({ waiting, standing: (client) => share.standing(client) }));
    const run = waiting.find((one) => move.type === "admit" && one.taskId === move.taskId);
    ok(run);
    const { client, pendingTokens } = run;
    waiting = without(waiting, run);
    share.admitted(client, waiting.map((one) => one.client));
    share.charge(client, { read: pendingTokens, generated: 0 });
    had.set(client, (had.get(client) ?? 0) + pendingTokens);
    share.leave(client);
    ask(client, pendingTokens);
  }
  const difference = (had.get("many") ?? 0) - (had.get("one by one") ?? 0);
  ok(Math.abs(difference) <= 1000, `differ by ${difference} tokens`);
});

Deno.test("nextMove() gives single places away without driving anyone out", () => {
  const running = [request("r1", { client: "a" })];
  const waiting = [prompt("a2", 9, { client: "b" })];
  equal(next({ running, waiting, runningMax: 1 }), "run r1:1");
});

/** One whose next token a step under way draws. */
const drawing = (id: string, changes: Partial<BatchRequest> = {}) =>
  request(id, { pendingTokens: 0, ...changes });

Deno.test("nextMove() rests while all wait for the tokens of steps under way", () => {
  equal(next({ running: [drawing("r1"), drawing("r2")], stepsAtOnce: 3 }), "rest");
  equal(next({ running: [drawing("r1"), request("r2")], stepsAtOnce: 3 }), "run r2:1");
});

Deno.test("nextMove() spreads those who decode evenly over the steps under way at a time", () => {
  const running = ["r1", "r2", "r3", "r4", "r5"].map((id) => request(id));
  equal(next({ running, stepsAtOnce: 2 }), "run r1:1 r2:1 r3:1");
  const [r1, r2, r3] = ["r1", "r2", "r3"].map((id) => drawing(id));
  const rest = running.slice(3);
  equal(
    next({ running: [...[r1, r2, r3].flatMap((one) => one ?? []), ...rest], stepsAtOnce: 2 }),
    "run r4:1 r5:1",
  );
  equal(next({ running, stepsAtOnce: 9 }), "run r1:1");
});

Deno.test("nextMove() takes those first who were longest in no step", () => {
  const last = [7, 4, 9, 2];
  const running = last.map((lastStep, i) => request(`r${i}`, { lastStep }));
  equal(next({ running, stepsAtOnce: 2 }), "run r3:1 r1:1");
});

Deno.test("nextMove() reads on in a prompt whose chunk is under way, in short chunks beside decoding", () => {
  equal(next({ running: [begun("r1", 300)], stepsAtOnce: 3 }), "run r1:100");
  equal(next({ running: [begun("r1", 300), drawing("r2")], stepsAtOnce: 3 }), "run r1:40");
});

/** A small engine that obeys: its requests, its memory, and what it did. */
function simulate(
  requests: readonly { client: number; prompt: number; answer: number; at: number }[],
  { runningMax, memory }: { runningMax: number; memory: number },
) {
  const runs = requests.map(({ client, prompt, answer, at }, i) => ({
    taskId: TaskId.parse(`t${i}`),
    client: `c${client}`,
    arrival: i,
    prefixKey: `t${i}`,
    lastStep: 0,
    known: prompt,
    total: prompt + answer,
    cached: 0,
    isStarted: false,
    at,
    get pendingTokens() {
      return this.known - this.cached;
    },
  }));
  type Run = typeof runs[number];
  let [queue, running, waiting]: [Run[], Run[], Run[]] = [[...runs], [], []];
  const done: string[] = [];
  for (let step = 0, moves = 0; done.length < runs.length; step++) {
    waiting = [...waiting, ...queue.filter(({ at }) => at <= step)];
    queue = queue.filter(({ at }) => at > step);
    for (let isOver = false; !isOver;) {
      ok(moves++ < 100_000, "it comes to an end");
      const held = running.reduce((sum, { cached }) => sum + cached, 0);
      const move = nextMove(view({ running, waiting, runningMax, free: memory - held }));
      isOver = move.type === "run" || move.type === "rest";
      if (move.type === "rest") equal(running.length + waiting.length, 0, "only when all is done");
      if (move.type === "run") {
        ok(move.rows.length > 0, "a step does something");
        for (const { taskId, tokens } of move.rows) {
          const run = running.find((one) => one.taskId === taskId);
          ok(run?.isStarted, "only those who have begun are in a step");
          run.cached += tokens;
          if (run.cached === run.known) run.known++;
        }
        ok(running.reduce((sum, { cached }) => sum + cached, 0) <= memory, "within the memory");
        const ended = running.filter(({ known, total }) => known > total);
        done.push(...ended.map(({ taskId }) => taskId));
        running = running.filter((run) => !ended.includes(run));
      } else if (move.type !== "rest") {
        const run = [...running, ...waiting].find(({ taskId }) => taskId === move.taskId);
        ok(run && move.type !== "fail", `${told(move)}`);
        if (move.type === "start") run.isStarted = true;
        if (move.type === "admit") [running, waiting] = [[...running, run], without(waiting, run)];
        if (move.type === "preempt") {
          Object.assign(run, { cached: 0, isStarted: false });
          [running, waiting] = [without(running, run), [...waiting, run]];
        }
      }
    }
  }
  return done;
}

function without<T>(list: readonly T[], one: T): T[] {
  return list.filter((other) => other !== one);
}

Deno.test("nextMove() brings every request to its end, whatever the memory and the places", () => {
  const one = fc.record({
    client: fc.nat(3),
    prompt: fc.integer({ min: 1, max: 300 }),
    answer: fc.integer({ min: 1, max: 100 }),
    at: fc.nat(50),
  });
  fc.assert(
    fc.property(
      fc.array(one, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 401, max: 1500 }), // Each fits alone.
      (requests, runningMax, memory) => {
        equal(simulate(requests, { runningMax, memory }).length, requests.length);
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("nextMove() serves requests of one client in their order when all are alike", () => {
  const requests = Array.from({ length: 9 }, () => ({ client: 0, prompt: 50, answer: 20, at: 0 }));
  deepEqual(simulate(requests, { runningMax: 3, memory: 10_000 }), requests.map((_, i) => `t${i}`));
});

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { measureCluster } from "../../bench/core/network_cost.ts";
import { Calendar } from "../../bench/core/calendar.ts";
import { networkLines, type NetworkReport, networkSections } from "../../bench/network_report.ts";

const SETTINGS = { edgesPerNode: 2, idleSeconds: 5, loadSeconds: 2, generationsPerSecond: 5 };

Deno.test("a small cluster's figures are there, and are the same twice", () => {
  const { traffic, succession } = measureCluster(4, SETTINGS);
  deepEqual(measureCluster(4, SETTINGS), { traffic, succession });
  const [idle, load] = traffic;
  ok(idle && load);
  deepEqual([idle.when, load.when, idle.nodes], ["idle", "load", 4]);
  // Three heartbeats a second to each of three, and what each says once a second.
  ok(idle.receivedMessages > 2 && idle.receivedMessages < 8, `${idle.receivedMessages}`);
  ok(idle.sentBytes > 0 && idle.sentBytes < idle.receivedBytes, "a message to all is sent once");
  equal(idle.bytesByType["Events"], undefined, "nothing happens");
  ok((load.bytesByType["Events"] ?? 0) > 0 && load.receivedBytes > idle.receivedBytes);
  ok(succession.tookMs > 0 && succession.tookMs < 3_000, `${succession.tookMs} ms`);
  ok((succession.bytesByType["Candidacy"] ?? 0) > 0, "there was an election");
});

Deno.test("the figures come as lines and as a section", () => {
  const rates = { receivedBytes: 1_234.5, sentBytes: 99.6, receivedMessages: 6.28 };
  const bytesByType = { Telemetry: 75, Heartbeat: 25 };
  const row = {
    ...{ masterReceivedBytes: 5, masterSentBytes: 6, largestBytes: 7 },
    ...rates,
    bytesByType,
  };
  const report: NetworkReport = {
    ...{ schemaVersion: 1, command: "deno task bench:network", settings: SETTINGS },
    startedAt: "2026-01-02T03:04:05Z",
    tool: { name: "exo", version: "0", commit: "abc", hasChanges: true },
    traffic: [{ nodes: 10, when: "idle", ...row }],
    succession: [{ nodes: 10, tookMs: 1_110, ...row, bytesByType: {} }],
  };
  const page = networkSections(report).join("\n");
  match(page, /2026-01-02, exo abc with changes\./);
  match(page, /\| 10 \| idle \| 1235 \| 100 \| 6\.28 \| 5 \| 6 \| 7 \| Telemetry, 75 % \|/);
  match(page, /\| 10 \| 1110 \| 1235 \| 6 \| 6 \| 7 \| - \|/);
  match(networkLines(report)[0] ?? "", /^Nodes 10, When idle, Received, B\/s 1235, /);
});

Deno.test("a calendar keeps the order of what is due at once", () => {
  const calendar = new Calendar();
  const done: string[] = [];
  calendar.after(2, () => done.push(`c at ${calendar.now}`));
  calendar.after(1, () => {
    done.push(`a at ${calendar.now}`);
    calendar.after(0, () => done.push("b at once"));
  });
  calendar.pass(1);
  deepEqual([done, calendar.now], [["a at 1", "b at once"], 1]);
  calendar.pass(10);
  deepEqual([done.at(-1), calendar.now], ["c at 2", 11]);
});

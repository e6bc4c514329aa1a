import { deepEqual, equal } from "node:assert/strict";
import { z } from "zod";
import { GROUP_SIZE_MAX } from "../../core/group.ts";
import { GATHER_CHARS_MAX } from "../../core/pending_gathers.ts";
import {
  ACKNOWLEDGERS_MAX,
  decodeMessage,
  encodeMessage,
  EPOCH_CLOCK_MAX,
  EVENTS_PAGE_MAX,
  type Message,
  MESSAGE_BYTES_MAX,
  REPORT_EVENTS_MAX,
  TELEMETRY_ENTRIES_MAX,
} from "../../core/protocol.ts";
import { stateToJson } from "../../core/state.ts";
import {
  A,
  B,
  cardOf,
  commandId,
  created,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
} from "../support/fixtures.ts";

const epoch = { clock: 3, nodeId: A };
const head = { epoch, idx: 7 };
const state = stateToJson(fold([nodeStarted(A), created(instanceOf("i"))]));
const indexed = { idx: 8, epoch, event: nodeStarted(B) };

const round = { instanceId: instanceId("i"), generation: "i/1.2", sequence: 0 };

const MESSAGES: readonly Message[] = [
  { type: "Heartbeat", epoch, head, seniority: 3 },
  { type: "Following", epoch, idx: -1 },
  { type: "Candidacy", clock: 4, seniority: -1, head: { idx: -1 } },
  { type: "Candidacy", clock: 4, seniority: 0, head, epoch },
  { type: "Objection", master: A, epoch, head, seniority: 1, leaseMs: 10 },
  { type: "Events", epoch, previous: head, events: [indexed], acknowledgers: [B] },
  { type: "SyncRequest", epoch, head },
  { type: "Snapshot", epoch, state },
  { type: "HeadRequest", clock: 4 },
  { type: "HeadState", clock: 4, state },
  {
    type: "CommandRequest",
    epoch,
    command: { type: "AddCustomModelCard", commandId: commandId("c"), modelCard: cardOf() },
  },
  {
    type: "CommandAnswer",
    epoch,
    reply: { type: "CommandAccepted", commandId: commandId("c"), idx: 8 },
  },
  { type: "Report", epoch, events: [nodeStarted(B)] },
  {
    type: "Telemetry",
    epoch,
    memory: [[A, { ramTotalBytes: 2, ramAvailableBytes: 1 }]],
    disk: [[A, { totalBytes: 2, availableBytes: 1 }]],
    system: [[A, { cpuUsage: 0.5, gpuTemperatureCelsius: 40, powerWatts: 9 }], [B, {}]],
    links: [["a>b>c", { latencyMs: 0.5 }], ["b>a>c", {}]],
  },
  { type: "GatherPiece", epoch, ...round, data: "AAEC" },
  { type: "GatherPiece", epoch, ...round, data: "" },
  { type: "Gathered", epoch, ...round, pieces: ["AAEC", ""] },
  { type: "GatherRefused", epoch, ...round, reason: "no" },
];

Deno.test("every message survives its text", () => {
  for (const message of MESSAGES) deepEqual(decodeMessage(encodeMessage(message)), message);
});

Deno.test("what is no message is none, and nothing is thrown", () => {
  for (const text of ["", "{", "null", "[]", "7", `{"type":"Unknown"}`, `{"type":"Heartbeat"}`]) {
    equal(decodeMessage(text), undefined, text);
  }
});

Deno.test("each field of a message is needed, and of its own type", () => {
  for (const message of MESSAGES) {
    for (const key of Object.keys(message)) {
      if (message.type === "Candidacy" && key === "epoch") continue;
      const { [key]: _, ...rest } = message as Record<string, unknown>;
      equal(decodeMessage(JSON.stringify(rest)), undefined, `${message.type} without ${key}`);
      const wrong = { ...message, [key]: { wrong: true } };
      equal(decodeMessage(JSON.stringify(wrong)), undefined, `${message.type} with odd ${key}`);
    }
  }
});

Deno.test("a message over a limit is none", () => {
  const many = <T>(one: T, count: number) => Array.from({ length: count + 1 }, () => one);
  const [from, memory] = [epoch, { ramTotalBytes: 2, ramAvailableBytes: 1 }];
  const disk = { totalBytes: 2, availableBytes: 1 };
  const telemetry = { type: "Telemetry", epoch, memory: [], disk: [], system: [], links: [] };
  const events = { type: "Events", epoch: from, previous: head, events: [indexed] };
  const over = [
    { ...events, acknowledgers: many(A, ACKNOWLEDGERS_MAX) },
    { ...events, acknowledgers: [], events: many(indexed, EVENTS_PAGE_MAX) },
    { ...events, acknowledgers: [], events: [] },
    { type: "Report", epoch, events: many(nodeStarted(A), REPORT_EVENTS_MAX) },
    { ...telemetry, memory: many([A, memory], TELEMETRY_ENTRIES_MAX) },
    { ...telemetry, disk: many([A, disk], TELEMETRY_ENTRIES_MAX) },
    { ...telemetry, system: many([A, {}], TELEMETRY_ENTRIES_MAX) },
    { ...telemetry, system: [[A, { cpuUsage: 1.01 }]] },
    { ...telemetry, system: [[A, { powerWatts: -1 }]] },
    { ...telemetry, disk: [[A, { ...disk, availableBytes: -1 }]] },
    { type: "GatherPiece", epoch, ...round, data: "A".repeat(GATHER_CHARS_MAX + 4) },
    { type: "GatherPiece", epoch, ...round, data: "?" },
    { type: "Gathered", epoch, ...round, pieces: many("", GROUP_SIZE_MAX) },
    { type: "Following", epoch: { clock: EPOCH_CLOCK_MAX + 1, nodeId: A }, idx: 0 },
    { type: "Candidacy", clock: EPOCH_CLOCK_MAX + 1, seniority: 0, head },
  ];
  for (const message of over) equal(decodeMessage(JSON.stringify(message)), undefined);
  equal(decodeMessage(" ".repeat(MESSAGE_BYTES_MAX + 1)), undefined);
});

Deno.test("a message of nonsense is refused without words for each issue", () => {
  let worded = 0;
  z.config({ customError: () => void worded++ });
  try {
    const nonsense = Array.from({ length: 100_000 }, () => ({}));
    const state = { nodes: nonsense, instances: nonsense, tasks: nonsense };
    const epoch = { clock: 1, master: A };
    equal(decodeMessage(JSON.stringify({ type: "Snapshot", epoch, state })), undefined);
    equal(worded, 0);
  } finally {
    z.config({ customError: undefined });
  }
});

import { deepEqual, equal } from "node:assert/strict";
import { admit } from "../../core/admission.ts";
import type { Event } from "../../core/events.ts";
import { FRIENDLY_NAME_CHARS_MAX, withShortTexts } from "../../core/free_text.ts";
import { REASON_CHARS_MAX } from "../../core/short_text.ts";
import { isSettled } from "../../core/facts.ts";
import { gathered } from "../support/control_plane.ts";
import {
  A,
  created,
  fold,
  instanceOf,
  MODEL,
  nodeStarted,
  reported,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";

const LONG = "x".repeat(10_000);

Deno.test("free texts of reports are bounded where they enter the log, and told once all the same", () => {
  const started = nodeStarted(A);
  const named: Event = { ...started, info: { ...started.info, friendlyName: LONG } };
  const failed = reported("i:0", "RunnerFailed", { reason: LONG });
  const name = `${"x".repeat(FRIENDLY_NAME_CHARS_MAX - 1)}…`;
  const reason = `${"x".repeat(REASON_CHARS_MAX - 1)}…`;
  let state = fold(admit(fold([]), named, A));
  equal(state.nodes.get(A)?.info.friendlyName, name);
  const renamed = gathered(A, { type: "MiscData", friendlyName: `y${LONG}` });
  state = fold(admit(state, renamed, A), state);
  equal(state.nodes.get(A)?.info.friendlyName.length, FRIENDLY_NAME_CHARS_MAX);
  equal(isSettled(state, A, renamed), true);
  state = fold([created(instanceOf("i")), taskCreated(taskOf("t", "i"))], state);
  const lost: Event = {
    type: "TaskFailed",
    taskId: taskId("t"),
    errorType: "node_unreachable",
    errorMessage: LONG,
  };
  state = fold(admit(state, lost, A), state);
  equal(state.tasks.get(taskId("t"))?.errorMessage, reason);
  state = fold(admit(state, failed, A), state);
  const { status } = [...state.runners.values()][0] ?? {};
  equal(status?.type === "RunnerFailed" && status.reason, reason);
  const download: Event = {
    type: "NodeDownloadProgress",
    nodeId: A,
    modelId: MODEL,
    status: { type: "DownloadFailed", errorMessage: LONG },
  };
  state = fold(admit(state, download, A), state);
  deepEqual(state.downloads.get(A)?.get(MODEL), { type: "DownloadFailed", errorMessage: reason });
  equal(isSettled(state, A, download), true);
});

Deno.test("diagnostics are bounded line by line; what has no free text stays as it is", () => {
  const status = { type: "RunnerFailed" as const, reason: "OOM", diagnostics: ["short", LONG] };
  const failed = reported("i:0", "RunnerFailed");
  const told = withShortTexts({ ...failed, status } as Event);
  const lines = told.type === "RunnerStatusUpdated" && told.status.type === "RunnerFailed"
    ? told.status.diagnostics.map(({ length }) => length)
    : [];
  deepEqual(lines, [5, REASON_CHARS_MAX]);
  const plain: Event[] = [
    reported("i:0", "RunnerReady"),
    gathered(A, { type: "RdmaCtlStatus", enabled: true }),
    {
      type: "NodeDownloadProgress",
      nodeId: A,
      modelId: MODEL,
      status: { type: "DownloadPending" },
    },
    { type: "EpochStarted" },
  ];
  deepEqual(plain.map(withShortTexts), plain);
});

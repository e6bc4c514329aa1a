import type { Event } from "./events.ts";

/** Longest name that a node gives itself. */
export const FRIENDLY_NAME_CHARS_MAX = 128;

/** Longest reason, or line of diagnostics, that a node tells of a failure. */
export const REASON_CHARS_MAX = 2_000;

/** A text of so many characters at most; what is left out is shown by an ellipsis. */
export function shortened(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const kept = text.slice(0, charsMax - 1);
  // A pair of surrogates is one sign: half of it would be none.
  return `${/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept}…`;
}

/** A report whose free texts are bounded: every node keeps them, in its state and in its log. */
export function withShortTexts(report: Event): Event {
  const name = (text: string) => shortened(text, FRIENDLY_NAME_CHARS_MAX);
  const reason = (text: string) => shortened(text, REASON_CHARS_MAX);
  switch (report.type) {
    case "NodeStarted": {
      const friendlyName = name(report.info.friendlyName);
      return { ...report, info: { ...report.info, friendlyName } };
    }
    case "NodeGatheredInfo": {
      const { info } = report;
      if (info.type !== "MiscData") return report;
      return { ...report, info: { ...info, friendlyName: name(info.friendlyName) } };
    }
    case "RunnerStatusUpdated": {
      const { status } = report;
      if (status.type !== "RunnerFailed") return report;
      const diagnostics = status.diagnostics.map(reason);
      return { ...report, status: { ...status, reason: reason(status.reason), diagnostics } };
    }
    case "TaskFailed":
      return { ...report, errorMessage: reason(report.errorMessage) };
    case "NodeDownloadProgress": {
      const { status } = report;
      if (status.type !== "DownloadFailed") return report;
      return { ...report, status: { ...status, errorMessage: reason(status.errorMessage) } };
    }
    default:
      return report;
  }
}

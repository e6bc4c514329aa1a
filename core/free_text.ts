import type { Event } from "./events.ts";
import { REASON_CHARS_MAX, shortened } from "./short_text.ts";

/** Longest name that a node gives itself. */
export const FRIENDLY_NAME_CHARS_MAX = 128;

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

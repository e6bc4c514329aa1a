import type { CommanderError } from "commander";
import { AppError } from "../core/errors.ts";

/** The error with `help` where it has no hint of its own. */
export function withHint(error: AppError, help: string): AppError {
  const { code, message, hint, param, cause } = error;
  return hint === undefined ? new AppError(code, message, { hint: help, param, cause }) : error;
}

/** The parser's complaint in our words: without its prefix, its guess as the hint. */
export function usageOf(error: CommanderError, help: string): AppError {
  const [message = "", guess] = error.message.replace(/^error: /, "").split("\n");
  const meant = /^\(Did you mean (.*)\?\)$/.exec(guess ?? "")?.[1];
  return new AppError("usage", complaint(error.code, message, help.replace(/ --help$/, "")), {
    hint: meant ? `did you mean ${meant}?` : help,
    cause: error,
  });
}

/** The arguments at the end of the parser's message. */
function extra(message: string): string {
  return message.slice(message.lastIndexOf(": ") + 2).replace(/\.$/, "");
}

/** What was typed wrongly at `called`; `message` is the parser's, which quotes it. */
function complaint(code: string, message: string, called: string): string {
  const quoted = /'(.*?)'/.exec(message)?.[1] ?? "";
  const [flag = "", value = "a value"] = quoted.split(" ").map((word) => word.replace(/[<>]/g, ""));
  switch (code) {
    // Printed the help of a group that was called without a subcommand.
    case "commander.help":
      return `Cannot run ${called}: found no subcommand, one needed`;
    case "commander.unknownCommand":
      return `Cannot run "${quoted}": ${called} has no such command, one of its own needed`;
    case "commander.unknownOption":
      return `Cannot use ${quoted}: ${called} has no such flag, one of its own needed`;
    case "commander.optionMissingArgument":
      return `Cannot use ${flag}: found nothing after it, ${value} needed`;
    case "commander.missingArgument":
      return `Cannot run ${called}: found no ${quoted}, one needed`;
    case "commander.excessArguments":
      return `Cannot run ${called}: found too many arguments: ${extra(message)}; fewer needed`;
    default:
      return `Cannot run ${called}: ${message.replace(/\.$/, "")}`;
  }
}

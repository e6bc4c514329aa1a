import { isAbsolute } from "node:path";
import type { DownloadStatus } from "../core/download.ts";
import { AppError } from "../core/errors.ts";
import type { ModelId } from "../core/ids.ts";
import type { ModelCard } from "../core/model_card.ts";
import type { EventLog } from "./event_log.ts";
import { inspectModel } from "./model_files.ts";

/** Which models this node has, and where their files lie. */
export class ModelStore {
  readonly #log: EventLog;

  constructor(log: EventLog) {
    this.#log = log;
  }

  /** The models that were registered here. */
  modelIds(): readonly ModelId[] {
    return this.#log.localModels();
  }

  /** Where a model's files lie on this node; undefined when it has none. */
  path(modelId: ModelId): string | undefined {
    return this.#log.localPath(modelId);
  }

  /**
   * Registers a GGUF file or a checkpoint folder where it lies; nothing is copied.
   * @throws {AppError} `not_found`, `corrupt_model` or `unsupported_model`.
   */
  async add(path: string): Promise<{ modelCard: ModelCard; totalBytes: number }> {
    if (!isAbsolute(path)) {
      throw new AppError("invalid_request", `Cannot add "${path}": an absolute path is needed`, {
        param: "path",
        hint: "exo models add makes a path absolute by itself",
      });
    }
    const found = await inspectModel(path);
    this.#log.setLocalPath(found.modelCard.modelId, path);
    return found;
  }

  /** Whether this node can load the model now. */
  async status(modelId: ModelId): Promise<DownloadStatus> {
    try {
      const path = this.path(modelId);
      if (path === undefined) {
        return { type: "DownloadFailed", errorMessage: missing(modelId) };
      }
      const { totalBytes } = await inspectModel(path);
      return { type: "DownloadCompleted", totalBytes, readOnly: true };
    } catch (cause) {
      const found = cause instanceof Error ? cause.message : String(cause);
      return { type: "DownloadFailed", errorMessage: found };
    }
  }

  /** Forgets where a model lies; the files stay. */
  forget(modelId: ModelId): void {
    this.#log.dropLocalPath(modelId);
  }
}

/** Files that a path is added by get an id of their own, so a hub's id needs another way. */
function missing(modelId: ModelId): string {
  if (modelId.startsWith("local/")) {
    return `${modelId} is not on this node: exo models add PATH registers it`;
  }
  return `This node lacks the files of ${modelId}, and this version fetches none: ` +
    "fetch them yourself, then exo run PATH";
}

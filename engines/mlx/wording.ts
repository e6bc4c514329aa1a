/** What messages call the parts of a checkpoint, so that they name what its own files have. */
export interface Wording {
  /** The whole of it, after "a". */
  readonly noun: string;
  /** What holds its settings. */
  readonly settings: string;
  /** What to do about tensors that are not those of its settings. */
  readonly mixed: string;
  /** A tensor that we know by its Hugging Face name. */
  tensor(name: string): string;
  /** A text with names of a `config.json` in it, in its own names. */
  setting(text: string): string;
}

/** The words for a Hugging Face folder, whose names are also ours. */
export const FOLDER_WORDING: Wording = {
  noun: "checkpoint",
  settings: "config",
  mixed:
    "the weights and config.json are of two models, or damaged; fetch both from one place again",
  tensor: (name) => name,
  setting: (text) => text,
};

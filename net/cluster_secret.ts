import { hkdfSync } from "node:crypto";
import { AppError } from "../core/errors.ts";

/** Fewest characters of a secret: what is shorter can be guessed. */
export const SECRET_CHARS_MIN = 32;

/** Random bytes of a secret that exo makes. */
export const SECRET_BYTES = 32;

/** Bytes of the key that libp2p's private networks take. */
const KEY_BYTES = 32;

/** Tells whoever finds the text what it is. */
const PREFIX = "exo-cluster-secret-1-";

/** Names what the key is for, so that no other use of the same secret has the same key. */
const LABEL = "exo private network 1";

/** A secret as text of one line; `random` are `SECRET_BYTES` bytes that nobody can guess. */
export function clusterSecret(random: Uint8Array<ArrayBuffer>): string {
  return PREFIX + random.toBase64({ alphabet: "base64url", omitPadding: true });
}

/**
 * The key of the private network that a secret stands for; white space around it does not count.
 * `name` is what messages call it, and never the secret itself.
 * @throws {AppError} `usage` when it is shorter than `SECRET_CHARS_MIN`.
 */
export function privateNetworkKey(secret: string, name = "the cluster secret"): Uint8Array {
  const text = secret.trim();
  if (text.length < SECRET_CHARS_MIN) {
    const found = `found ${text.length} character${text.length === 1 ? "" : "s"}`;
    const message = `Cannot use ${name}: ${found}, at least ${SECRET_CHARS_MIN} needed`;
    throw new AppError("usage", message, {
      hint: "make one, and copy it to every node: exo cluster secret new --out FILE",
    });
  }
  // No salt: every node has to come to the same key without a word.
  return new Uint8Array(hkdfSync("sha256", text, "", LABEL, KEY_BYTES));
}

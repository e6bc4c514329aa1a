import { AppError } from "../../../core/errors.ts";
import { Bulk } from "../../../net/bulk.ts";
import { BULK, BULK_SERVER_NAME, type BulkGrant } from "../../../net/bulk_messages.ts";
import { decodePreface, encodePreface } from "../../../net/bulk_preface.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import { decodeMessage, encodeMessage } from "../../../net/topics.ts";
import type { Transport } from "../../../net/transport.ts";
import { A, B, C } from "../../support/fixtures.ts";
import { mutatedBytes, mutatedMessage } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

const LINK = { peer: A, address: "/ip4/127.0.0.1/tcp/1" };
const BYTES = 100_000;
const WORDS: readonly string[] = [A, "", "\u0000", "Receive", "Measure", "__proto__", "x"];

/** One in so many messages is for the socket: a TLS handshake takes milliseconds. */
const DOOR_EVERY = 20;

const TIMEOUT = { timeoutMs: 10_000 };

/**
 * Asks for bulk bytes wrongly, and shows wrong tokens at the door: nobody gets a byte, and what is
 * offered can still be received by whom it is for.
 */
export async function fuzzBulk(seed: number, count: number): Promise<FuzzedPart> {
  const network = new MemoryNetwork();
  const [a, b, c] = [A, B, C].map((id) => network.join(id)) as [Transport, Transport, Transport];
  const options = { newToken: () => crypto.randomUUID() };
  const [sender, receiver] = [new Bulk(a, options), new Bulk(b, options)];
  const random = new Random(seed);
  const fuzzing = new Fuzzing(seed);
  try {
    const { offerId } = await sender.offer(B, { bytes: new Uint8Array(BYTES) });
    const request = { type: "Receive", offerId };
    const reply = await b.request(A, BULK.protocol, encodeMessage(request), TIMEOUT);
    const grant = decodeMessage(BULK.grant, reply);
    while (fuzzing.said < count) {
      if (random.below(DOOR_EVERY) === 0) await knock(grant, random, fuzzing);
      else await ask([b, c], request, random, fuzzing);
    }
    const received = await receiver.receive(LINK, offerId, () => {});
    if (received !== BYTES) fuzzing.found(`${received} bytes came afterwards`);
  } finally {
    sender.close();
    receiver.close();
  }
  return fuzzing.part();
}

/** A request for something that is not offered to whoever asks is well-formed, and in vain. */
async function ask(
  [offeree, other]: readonly [Transport, Transport],
  request: { readonly offerId: string },
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  const body = mutatedMessage(request, random, WORDS);
  const parsed = parse(body);
  if (parsed?.type === "Measure") return;
  const isRight = parsed?.offerId === request.offerId;
  fuzzing.say(parsed !== undefined);
  try {
    await (isRight ? other : offeree).request(A, BULK.protocol, body, TIMEOUT);
    fuzzing.found(`a token is given for ${quoted(body)}`);
  } catch (cause) {
    const expected = parsed ? "not_found" : "invalid_request";
    const isExpected = cause instanceof AppError && cause.code === expected;
    if (!isExpected) fuzzing.found(`${quoted(body)} is answered by ${cause}`);
  }
}

function parse(body: Uint8Array) {
  try {
    const request = decodeMessage(BULK.request, body);
    return { type: request.type, offerId: "offerId" in request ? request.offerId : undefined };
  } catch {
    return undefined;
  }
}

async function knock(grant: BulkGrant, random: Random, fuzzing: Fuzzing): Promise<void> {
  const right = encodePreface(grant.token);
  const preface = mutatedBytes(right, random);
  // The token followed by more is the token.
  if (decodePreface(preface.subarray(0, right.length)) === grant.token) return;
  fuzzing.say(decodePreface(preface) !== undefined);
  const tcp = await Deno.connect({ hostname: "127.0.0.1", port: grant.port });
  using tls = await Deno.startTls(tcp, {
    hostname: BULK_SERVER_NAME,
    caCerts: [grant.certificatePem],
  });
  try {
    await tls.write(preface);
    await tls.closeWrite();
    const count = await tls.read(new Uint8Array(1));
    if (count !== null) fuzzing.found(`the door opens to ${quoted(preface)}`);
  } catch {
    // Reset: nothing came.
  }
}

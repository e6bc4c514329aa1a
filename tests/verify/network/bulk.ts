import { AppError } from "../../../core/errors.ts";
import { Bulk } from "../../../net/bulk.ts";
import {
  BULK,
  BULK_SERVER_NAME,
  type BulkGrant,
  GRANTS_PER_PEER_MAX,
  OFFERS_MAX,
} from "../../../net/bulk_messages.ts";
import {
  decodePreface,
  decodeResult,
  encodePreface,
  encodeRound,
  RESULT_BYTES,
} from "../../../net/bulk_preface.ts";
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

/** Tokens are drawn by the seed, too, so that a run can be repeated. */
const TOKEN_CHARS = 36;

/** Tokens live as long as a run: what was given before it has to be good afterwards. */
const TOKEN_MS = 3_600_000;

const TIMEOUT = { timeoutMs: 10_000 };

/** Who asks A, and for what, and what A has for B. */
interface World {
  readonly offeree: Transport;
  readonly other: Transport;
  /** The right question for what is offered to B. */
  readonly request: { readonly type: "Receive"; readonly offerId: string };
  readonly random: Random;
  readonly fuzzing: Fuzzing;
}

/**
 * Asks for bulk bytes wrongly, and shows wrong tokens at the door: nobody gets a byte. What was
 * offered and granted before is there afterwards, and nothing else: all places are free.
 */
export async function fuzzBulk(seed: number, count: number): Promise<FuzzedPart> {
  const network = new MemoryNetwork();
  const [a, offeree, other] = [A, B, C].map((id) => network.join(id)) as [
    Transport,
    Transport,
    Transport,
  ];
  const random = new Random(seed);
  const hex = () => random.below(16).toString(16);
  const newToken = () => Array.from({ length: TOKEN_CHARS }, hex).join("");
  const options = { newToken, grantLifetimeMs: TOKEN_MS };
  const [sender, receiver] = [new Bulk(a, options), new Bulk(offeree, options)];
  const fuzzing = new Fuzzing(seed);
  try {
    const { offerId } = await sender.offer(B, { bytes: new Uint8Array(BYTES) });
    const request = { type: "Receive" as const, offerId };
    const world: World = { offeree, other, request, random, fuzzing };
    const grant = await granted(offeree, request);
    while (fuzzing.said < count) {
      if (random.below(DOOR_EVERY) === 0) await knock(grant, world);
      else await ask(world);
    }
    for (const expected of [BYTES, 0]) {
      const { length } = await shown(grant, encodePreface(grant.token));
      if (length !== expected) fuzzing.found(`the token is good for ${length}, not ${expected}`);
    }
    const received = await receiver.receive(LINK, offerId, () => {});
    if (received !== BYTES) fuzzing.found(`${received} bytes came afterwards`);
    await requireAllPlaces(sender, world);
  } finally {
    sender.close();
    receiver.close();
  }
  return fuzzing.part();
}

async function granted(from: Transport, request: unknown): Promise<BulkGrant> {
  const reply = await from.request(A, BULK.protocol, encodeMessage(request), TIMEOUT);
  return decodeMessage(BULK.grant, reply);
}

/** As many tokens for each, and offers, as there may be: nothing of the past takes a place. */
async function requireAllPlaces(sender: Bulk, world: World): Promise<void> {
  const { offeree, other, fuzzing, request } = world;
  const full = async (what: string, places: number, take: () => Promise<unknown>) => {
    for (let place = 0; place < places; place++) {
      await take().catch((cause) => fuzzing.found(`no place ${place} for ${what}: ${cause}`));
    }
    const refused = await take().catch((cause) => cause);
    const isFull = refused instanceof AppError && refused.code === "queue_full";
    if (!isFull) fuzzing.found(`a place too many for ${what}`);
  };
  await full("a token of B", GRANTS_PER_PEER_MAX, () => granted(offeree, request));
  await full("a token of C", GRANTS_PER_PEER_MAX, () => granted(other, { type: "Measure" }));
  // One has been taken from the start.
  await full("an offer", OFFERS_MAX - 1, () => sender.offer(B, { bytes: new Uint8Array(1) }));
}

/** A request for something that is not offered to whoever asks is well-formed, and in vain. */
async function ask(world: World): Promise<void> {
  const { offeree, other, request, random, fuzzing } = world;
  const right = random.pick([request, { ...request, type: "Measure" }, { type: "Measure" }]);
  const body = mutatedMessage(right, random, WORDS);
  const parsed = parse(body);
  const isRight = parsed?.offerId === request.offerId;
  fuzzing.say(BULK.protocol, parsed !== undefined);
  try {
    const from = isRight ? other : offeree;
    const reply = await from.request(A, BULK.protocol, body, TIMEOUT);
    if (parsed?.type !== "Measure") return fuzzing.found(`a token is given for ${quoted(body)}`);
    await measure(decodeMessage(BULK.grant, reply), world);
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

/**
 * Any node may measure, so whoever asks for that rightly gets a token, which is used up at once:
 * for a measurement that is said wrongly, and told nothing but how many of its bytes came.
 */
async function measure(grant: BulkGrant, { random, fuzzing }: World): Promise<void> {
  if (grant.bytes !== 0) fuzzing.found(`${grant.bytes} bytes are promised to a measurement`);
  const rounds = mutatedBytes(encodeRound(random.below(8)), random);
  const all = Uint8Array.from([...encodePreface(grant.token), ...rounds]);
  fuzzing.say(BULK.protocol, false);
  const heard = await shown(grant, all);
  for (let at = 0; at < heard.length; at += RESULT_BYTES) {
    const result = heard.slice(at, at + RESULT_BYTES);
    const isOne = result.length === RESULT_BYTES && decodeResult(result, rounds.length);
    if (!isOne) fuzzing.found(`a measurement of ${quoted(rounds)} is told ${quoted(heard)}`);
  }
}

/** Shows what is no token of A. */
async function knock(grant: BulkGrant, { random, fuzzing }: World): Promise<void> {
  const right = encodePreface(grant.token);
  const preface = mutatedBytes(right, random);
  // The token followed by more is the token.
  if (decodePreface(preface.subarray(0, right.length)) === grant.token) return;
  fuzzing.say(BULK.protocol, decodePreface(preface) !== undefined);
  const { length } = await shown(grant, preface);
  if (length > 0) fuzzing.found(`the door opens to ${quoted(preface)}`);
}

/** All that the door says to this. */
async function shown(
  { port, certificatePem }: BulkGrant,
  said: Uint8Array,
): Promise<Uint8Array> {
  const tcp = await Deno.connect({ hostname: "127.0.0.1", port });
  const caCerts = [certificatePem];
  using tls = await Deno.startTls(tcp, { hostname: BULK_SERVER_NAME, caCerts });
  const [heard, block] = [[] as Uint8Array[], new Uint8Array(BYTES)];
  try {
    await tls.write(said);
    await tls.closeWrite();
    for (let count = await tls.read(block); count; count = await tls.read(block)) {
      heard.push(block.slice(0, count));
    }
  } catch {
    // Reset: no more came.
  }
  return new Uint8Array(await new Blob(heard as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

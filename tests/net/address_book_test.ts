import assert from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import {
  AddressBook,
  ENTRIES_MAX,
  FORGET_MS,
  isLoopback,
  RETRY_MS,
  RETRY_MS_MAX,
  RETRY_PROVEN_MS,
} from "../../net/address_book.ts";
import { ADDRESSES_MAX, type Hello } from "../../net/link_frames.ts";

const [SELF, PEER, OTHER] = ["self", "peer", "other"].map((id) => NodeId.parse(id)) as [
  NodeId,
  NodeId,
  NodeId,
];
const OUTER = "/ip4/10.0.0.2/tcp/1";
const SECOND = "/ip4/10.0.1.2/tcp/1";
const LOOPBACK = "/ip4/127.0.0.1/tcp/1";

function hello(hostId: string, ...addresses: string[]): Hello {
  return { hostId, addresses, peers: [], isAll: true };
}

/** The addresses that are due. */
function due(book: AddressBook, now: number): string[] {
  return book.due(now).map(({ address }) => address);
}

Deno.test("what is told is due at once, and only once", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER, SECOND], 0);
  book.learn(SELF, ["/ip4/10.0.0.1/tcp/1"], 0);
  assert.deepEqual(book.due(0), [{ peer: PEER, address: OUTER }, { peer: PEER, address: SECOND }]);
  assert.deepEqual(book.due(0), []);
});

Deno.test("loopback is tried only where it can lead to the node", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER, LOOPBACK], 0);
  assert.deepEqual(due(book, 0), [OUTER]);
  book.learn(OTHER, [LOOPBACK], 0);
  assert.deepEqual(due(book, 0), [LOOPBACK]);
  book.introduced(PEER, hello("here", OUTER, LOOPBACK), 0);
  assert.deepEqual(due(book, 0), [LOOPBACK]);
  assert.deepEqual([OUTER, LOOPBACK].map((one) => book.isWanted(PEER, one)), [false, true]);
  book.introduced(OTHER, hello("there", OUTER, LOOPBACK), 0);
  assert.deepEqual([OUTER, LOOPBACK].map((one) => book.isWanted(OTHER, one)), [true, false]);
});

Deno.test("what is no address is not dialled", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, ["", "10.0.0.2:1", "/ip4/999.0.0.1/tcp/1", `${OUTER}/p2p-circuit`], 0);
  assert.deepEqual(due(book, 0), []);
  for (const inside of [LOOPBACK, "/ip6/::1/tcp/1", "/dns/localhost/tcp/1"]) {
    assert.equal(isLoopback(inside), true, inside);
  }
  for (const outside of [OUTER, "/dns4/a/tcp/1", ""]) assert.equal(isLoopback(outside), false);
});

Deno.test("each failure doubles the wait, up to a limit", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER], 0);
  const waits: number[] = [];
  for (let now = 0; waits.length < 7; now++) {
    if (due(book, now).length === 0) continue;
    waits.push(now);
    book.failed(PEER, OUTER, now);
  }
  const gaps = waits.slice(1).map((at, n) => at - (waits[n] ?? 0));
  assert.deepEqual(gaps.slice(0, 4), [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS, 8 * RETRY_MS]);
  assert.deepEqual(gaps.slice(4), [RETRY_MS_MAX, RETRY_MS_MAX]);
});

Deno.test("a proven address is tried again at once, and often, as long as nobody else is there", () => {
  const book = new AddressBook(SELF, "here");
  book.linked(PEER, OUTER, 0);
  book.unlinked(PEER, OUTER, 100);
  assert.deepEqual(due(book, 100), [OUTER]);
  book.failed(PEER, OUTER, 200);
  assert.deepEqual(due(book, 200 + RETRY_PROVEN_MS - 1), []);
  assert.deepEqual(due(book, 200 + RETRY_PROVEN_MS), [OUTER]);
  book.mistaken(PEER, OUTER, 1_000);
  assert.deepEqual(due(book, 1_000 + RETRY_PROVEN_MS), []);
  book.mistaken(OTHER, OUTER, 1_000);
  book.unlinked(OTHER, OUTER, 1_000);
  assert.deepEqual(due(book, 1_000), []);
});

Deno.test("a failure that comes after the link changes nothing", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER], 0);
  book.due(0);
  book.linked(PEER, OUTER, 1);
  book.failed(PEER, OUTER, 2);
  assert.deepEqual(due(book, 60_000), []);
});

Deno.test("a node that says where it is is nowhere else, links apart", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER, SECOND], 0);
  book.linked(PEER, SECOND, 0);
  book.introduced(PEER, hello("there", "/ip4/10.0.0.9/tcp/2"), 1);
  assert.deepEqual(due(book, 1), ["/ip4/10.0.0.9/tcp/2"]);
  book.unlinked(PEER, SECOND, 2);
  assert.deepEqual(due(book, 2), [SECOND]);
  book.introduced(SELF, hello("here", LOOPBACK), 3);
  assert.deepEqual(due(book, 3), []);
});

Deno.test("an address is forgotten after a while, unless its node is linked elsewhere", () => {
  const book = new AddressBook(SELF, "here");
  for (const peer of [PEER, OTHER]) book.learn(peer, [OUTER, SECOND], 0);
  book.linked(PEER, OUTER, 0);
  const later = FORGET_MS + 1;
  assert.deepEqual(book.due(later), [{ peer: PEER, address: SECOND }]);
  book.failed(PEER, SECOND, later);
  book.unlinked(PEER, OUTER, later);
  assert.deepEqual(book.due(2 * later), [{ peer: PEER, address: OUTER }].slice(1));
});

Deno.test("whatever is told of one node, few of its addresses are kept: the newest", () => {
  const book = new AddressBook(SELF, "here");
  book.learn(PEER, [OUTER], 0);
  book.linked(PEER, OUTER, 0);
  const told = Array.from({ length: 1_000 }, (_, at) => `/ip4/10.1.0.1/tcp/${at + 1}`);
  for (const [at, address] of told.entries()) book.learn(PEER, [address], at);
  assert.deepEqual(due(book, 1_000), told.slice(1 - ADDRESSES_MAX));
  book.learn(PEER, ["/ip4/10.2.0.1/tcp/1"], 1_000);
  assert.deepEqual(due(book, 1_000), [], "all others are being dialled, or linked");
});

Deno.test("strangers are not taken up beyond a limit", () => {
  const book = new AddressBook(SELF, "here");
  for (let n = 0; n < ENTRIES_MAX + 10; n++) book.learn(NodeId.parse(`node${n}`), [OUTER], 0);
  assert.equal(due(book, 0).length, ENTRIES_MAX);
  book.introduced(PEER, hello("there", OUTER), 0);
  book.learn(NodeId.parse("node0"), [SECOND], 0);
  assert.deepEqual(due(book, 0), [SECOND], "of those that are known more may be told");
});

import { deepEqual } from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import {
  AddressBook,
  FORGET_MS,
  PEER_ADDRESSES_MAX,
  PEERS_MAX,
  RETRY_MS,
} from "../../net/address_book.ts";

const [ME, A] = [NodeId.parse("me"), NodeId.parse("a")];
const [HERE, THERE] = ["this host", "another host"];
const [INSIDE, OUTSIDE] = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"];

const hello = (hostId: string, addresses = [INSIDE, OUTSIDE]) => ({
  hostId,
  addresses,
  peers: [],
  isAll: true,
});

/** The addresses that are to be dialled now. */
const dueAt = (book: AddressBook, now: number) => book.due(now).map(({ address }) => address);

Deno.test("an address book has a node of another host dialled outside, once at a time", () => {
  const book = new AddressBook(ME, HERE);
  book.learn(A, [INSIDE, OUTSIDE, "no multiaddr"], 0);
  deepEqual(dueAt(book, 0), [OUTSIDE]);
  deepEqual(dueAt(book, 0), []);
  book.introduced(A, hello(THERE), 0);
  deepEqual(dueAt(book, 0), []);
});

Deno.test("an address book has a node of its own host dialled inside, and is never told of itself", () => {
  const book = new AddressBook(ME, HERE);
  book.introduced(A, hello(HERE), 0);
  book.learn(ME, [OUTSIDE], 0);
  deepEqual(dueAt(book, 0), [INSIDE]);
});

Deno.test("each failure doubles the wait for an address, up to a limit", () => {
  const book = new AddressBook(ME, HERE);
  book.learn(A, [OUTSIDE], 0);
  const waits: number[] = [];
  for (let now = 0; waits.length < 6;) {
    deepEqual(dueAt(book, now), [OUTSIDE]);
    book.failed(A, OUTSIDE, now);
    let wait = 0;
    while (dueAt(book, now + wait).length === 0) wait += RETRY_MS / 2;
    waits.push(wait);
    now += wait;
    book.unlinked(A, OUTSIDE, now);
  }
  deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
});

Deno.test("a link that was lost is dialled at once, and after a failure soon", () => {
  const book = new AddressBook(ME, HERE);
  book.linked(A, OUTSIDE, 0);
  deepEqual(dueAt(book, 10), []);
  book.unlinked(A, OUTSIDE, 10);
  deepEqual(dueAt(book, 10), [OUTSIDE]);
  book.failed(A, OUTSIDE, 10);
  deepEqual([dueAt(book, 509), dueAt(book, 510)], [[], [OUTSIDE]]);
});

Deno.test("an address book forgets who was not heard of for long, and knows so many nodes", () => {
  const book = new AddressBook(ME, HERE);
  for (let count = 0; count <= PEERS_MAX; count++) {
    book.learn(NodeId.parse(`node-${count}`), [OUTSIDE], 0);
  }
  deepEqual(dueAt(book, FORGET_MS).length, PEERS_MAX);
  const old = new AddressBook(ME, HERE);
  old.learn(A, [OUTSIDE], 0);
  deepEqual([dueAt(old, FORGET_MS + 1), dueAt(old, 0)], [[], []]);
});

Deno.test("what others tell of a node is limited, and makes room for what it says itself", () => {
  const book = new AddressBook(ME, HERE);
  for (let port = 2; port < 2 * PEER_ADDRESSES_MAX; port++) {
    book.learn(A, [`/ip4/10.0.0.9/tcp/${port}`], 0);
  }
  deepEqual(dueAt(book, 0).length, PEER_ADDRESSES_MAX);
  book.introduced(A, hello(THERE), 0);
  deepEqual(dueAt(book, 0), [OUTSIDE]);
});

import { deepEqual, equal } from "node:assert/strict";
import {
  clientOf,
  CLIENTS_REMEMBERED_MAX,
  FairShare,
  GENERATED_TOKEN_WEIGHT,
  tenantOf,
} from "../../core/fair_share.ts";

const served = (share: FairShare, client: string) => share.standing(client).tenant.served;
const read = (tokens: number) => ({ read: tokens, generated: 0 });

Deno.test("clientOf() is the tenant where no user is named, and tenantOf() finds it in both", () => {
  const clients = [clientOf("home", undefined), clientOf("home", "ada")];
  deepEqual(clients, ["home", "home/ada"]);
  deepEqual(clients.map(tenantOf), ["home", "home"]);
});

Deno.test("FairShare counts what was read and what was generated", () => {
  const share = new FairShare();
  share.arrive("a");
  share.charge("a", { read: 10, generated: 3 });
  equal(served(share, "a"), 10 + 3 * GENERATED_TOKEN_WEIGHT);
});

Deno.test("FairShare lets a client begin where the one with least work stands", () => {
  const share = new FairShare();
  share.arrive("a");
  share.charge("a", { read: 100, generated: 0 });
  share.arrive("b");
  equal(served(share, "b"), 100);
  share.charge("b", { read: 50, generated: 0 });
  share.arrive("c");
  equal(served(share, "c"), 100);
});

Deno.test("FairShare forgets all with the last request of all", () => {
  const share = new FairShare();
  share.arrive("a");
  share.arrive("a");
  share.charge("a", { read: 7, generated: 0 });
  share.leave("a");
  equal(served(share, "a"), 7);
  share.leave("a");
  share.leave("a"); // Once too often does no harm.
  equal(served(share, "a"), 0);
  share.charge("a", { read: 7, generated: 0 });
  equal(served(share, "a"), 0);
});

Deno.test("FairShare remembers what a client had that comes back while others are there", () => {
  const share = new FairShare();
  share.arrive("busy");
  for (let i = 0; i < 5; i++) {
    share.arrive("one at a time");
    share.charge("one at a time", read(100));
    share.leave("one at a time");
  }
  share.arrive("one at a time");
  equal(served(share, "one at a time"), 500);
  // Away for long, it saved up nothing either.
  share.leave("one at a time");
  share.charge("busy", read(9000));
  share.arrive("one at a time");
  equal(served(share, "one at a time"), 9000);
});

Deno.test("FairShare remembers those who left last, and a bounded number of them", () => {
  const share = new FairShare();
  share.arrive("stays");
  for (let i = 0; i <= CLIENTS_REMEMBERED_MAX; i++) {
    share.arrive(`c${i}`);
    share.charge(`c${i}`, read(7));
    share.leave(`c${i}`);
  }
  const back = (client: string) => {
    share.arrive(client);
    return served(share, client);
  };
  deepEqual([back("c0"), back("c1"), back(`c${CLIENTS_REMEMBERED_MAX}`)], [0, 7, 7]);
});

Deno.test("FairShare counts a tenant's users together, and each among them", () => {
  const share = new FairShare();
  const [ada, bob] = [clientOf("home", "ada"), clientOf("home", "bob")];
  deepEqual([ada, bob, "home"].map(tenantOf), ["home", "home", "home"]);
  for (const client of [ada, bob]) share.arrive(client);
  share.charge(ada, read(30));
  share.charge(bob, read(4));
  const standing = (client: string) => {
    const { tenant, user } = share.standing(client);
    return [tenant.served, user.served];
  };
  deepEqual([standing(ada), standing(bob)], [[34, 30], [34, 4]]);
  share.arrive(clientOf("home", "eve"));
  deepEqual(standing(clientOf("home", "eve")), [34, 4]);
});

Deno.test("FairShare counts who is passed while waiting, until it is admitted", () => {
  const share = new FairShare();
  const passed = (client: string) => {
    const { tenant, user } = share.standing(client);
    return [tenant.passed, user.passed];
  };
  for (const client of ["a/1", "a/2", "b", "c"]) share.arrive(client);
  share.admitted("c", ["a/1", "a/2", "b"]);
  share.admitted("a/1", ["a/2", "b"]);
  deepEqual(["a/1", "a/2", "b", "c"].map(passed), [[0, 0], [0, 1], [2, 0], [0, 0]]);
  share.admitted("b", ["b", "a/2"]);
  deepEqual(["a/2", "b"].map(passed), [[1, 1], [0, 0]]);
});

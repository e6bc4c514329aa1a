import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { z } from "zod";
import { flagsOf, valuesOf } from "../../cli/flags.ts";
import { NETWORK_FLAGS, openToAll, readNetwork, unanswered } from "../../cli/network_flags.ts";
import { privateNetworkKey } from "../../net/cluster_secret.ts";
import { TempDir } from "../support/temp_dir.ts";
import { runIn } from "./fake_io.ts";

const schema = z.object(NETWORK_FLAGS);
const IO = { cwd: "/" };

/** The flags as the command line reads them. */
function flags(typed: Record<string, unknown> = {}, env: Record<string, string> = {}) {
  return schema.parse(valuesOf(flagsOf(schema), typed, env));
}

Deno.test("a node joins exo-1 on port 52414 unless it is told otherwise", async () => {
  deepEqual(await readNetwork(flags(), IO), {
    network: { namespace: "exo-1", port: 52_414, bootstrap: [] },
    ringPorts: undefined,
    warnings: [],
  });
});

Deno.test("the network's flags come from the environment, too, lists with commas", async () => {
  const env = {
    EXO_LIBP2P_NAMESPACE: "lab",
    EXO_LIBP2P_PORT: "0",
    EXO_BOOTSTRAP: "10.0.0.2:1, mini.local ,",
    EXO_RING_PORTS: "50000-50063",
  };
  const { network, ringPorts } = await readNetwork(flags({}, env), IO);
  const bootstrap = ["/ip4/10.0.0.2/tcp/1", "/dns/mini.local/tcp/52414"];
  deepEqual(network, { namespace: "lab", port: 0, bootstrap });
  deepEqual(ringPorts, { from: 50_000, to: 50_063 });
  const typed = flags({ namespace: "typed", bootstrap: ["10.0.0.3"] }, env);
  deepEqual([typed.namespace, typed.bootstrap], ["typed", ["10.0.0.3"]]);
});

Deno.test("the key of the private network is that of the secret's file", async () => {
  await using dir = await TempDir.make();
  const path = join(dir.path, "secret");
  await Deno.writeTextFile(path, "s".repeat(40), { mode: 0o600 });
  const { network } = await readNetwork(flags({ clusterSecret: path }), IO);
  deepEqual(network.privateNetworkKey, privateNetworkKey("s".repeat(40)));
});

Deno.test("ports that are no range are refused", async () => {
  for (const text of ["50000", "50063-50000", "80-90", "50000-70000", "a-b", "-"]) {
    await rejects(readNetwork(flags({ ringPorts: text }), IO), {
      code: "usage",
      message:
        `Cannot use --ring-ports "${text}": A-B needed, the lower first, both from 1024 to 65535`,
    });
  }
});

Deno.test("exo serve refuses a namespace, a port or an address that cannot be used", async () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ["--namespace", "two words", /--namespace "two words": up to 63 letters, digits, dots/],
    ["--namespace", "a".repeat(64), /up to 63 letters/],
    ["--libp2p-port", "99999", /--libp2p-port 99999: at most 65535 needed/],
    ["--bootstrap", "http://10.0.0.2", /look for nodes at "http:\/\/10\.0\.0\.2": host:port/],
    ["--cluster-secret", "/nothing/here", /there is no such file/],
  ];
  await using dir = await TempDir.make();
  const common = ["serve", "--no-worker", "--no-api", "--data-dir", dir.path];
  for (const [flag, value, said] of cases) {
    const { code, stderr } = await runIn({}, [...common, flag, value]);
    equal(code, 2, stderr);
    match(stderr, said);
  }
});

Deno.test("openToAll() names the cluster, and the way to close it", () => {
  match(openToAll({ namespace: "lab" }), /may join the cluster "lab".*--cluster-secret FILE/);
});

Deno.test("unanswered() names all addresses that were tried", () => {
  const words = unanswered(["/dns/mini.local/tcp/52414", "/ip4/10.0.0.2/tcp/1"]);
  match(
    words,
    /^no other node answers at \/dns\/mini.local\/tcp\/52414 or \/ip4\/10.0.0.2\/tcp\/1 so far/,
  );
});

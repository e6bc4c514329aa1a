import { deepEqual, equal, throws } from "node:assert/strict";
import { parseHardwarePorts } from "../../../node/info/hardware_ports.ts";
import { parseThunderbolt } from "../../../node/info/thunderbolt.ts";
import { golden } from "../../support/fake_machine.ts";

const own = (n: number) => `D0000000-0000-4000-8000-00000000000${n}`;
const other = (n: number) => `E0000000-0000-4000-8000-00000000000${n}`;
const ports = async () => parseHardwarePorts(await golden("mac_hardware_ports.txt"));

Deno.test("each port with a device is one for RDMA; one that nobody knows is left out", async () => {
  const { idents } = parseThunderbolt(await golden("mac_thunderbolt.json"), await ports());
  deepEqual(idents, [
    { rdmaInterface: "rdma_en2", domainUuid: own(1), linkSpeed: "80 Gb/s" },
    { rdmaInterface: "rdma_en3", domainUuid: own(2), linkSpeed: "40 Gb/s" },
    { rdmaInterface: "rdma_en4", domainUuid: own(3), linkSpeed: "80 Gb/s" },
    { rdmaInterface: "rdma_en5", domainUuid: own(4), linkSpeed: "Up to 120 Gb/s" },
  ]);
});

Deno.test("a cable counts to another machine, and by Thunderbolt 5 only", async () => {
  const { connections } = parseThunderbolt(await golden("mac_thunderbolt.json"), await ports());
  deepEqual(connections, [{ sourceUuid: own(1), sinkUuid: other(1) }]);
});

Deno.test("a machine behind a hub is found", async () => {
  const { connections } = parseThunderbolt(await golden("mac_thunderbolt_hub.json"), await ports());
  deepEqual(connections, [{ sourceUuid: own(1), sinkUuid: other(3) }]);
});

Deno.test("odd entries are left out, hubs without end are given up, other texts are refused", () => {
  const known = new Map([["en2", "Thunderbolt 1"]]);
  const profile = (...buses: unknown[]) => JSON.stringify({ SPThunderboltDataType: buses });
  const bus = (items: unknown[]) => ({
    domain_uuid_key: own(1),
    receptacle_1_tag: { receptacle_id_key: "1", current_speed_key: "80 Gb/s" },
    _items: items,
  });
  let nested: unknown = { domain_uuid_key: other(1) };
  for (let depth = 0; depth < 20; depth++) nested = { _items: [nested] };
  const parsed = parseThunderbolt(profile(7, {}, bus([null, nested])), known);
  deepEqual([parsed.idents.length, parsed.connections.length], [1, 0]);
  const slow = {
    ...bus([{ domain_uuid_key: other(1) }]),
    receptacle_1_tag: { receptacle_id_key: "1" },
  };
  const silent = parseThunderbolt(profile(slow), known);
  deepEqual([silent.idents[0]?.linkSpeed, silent.connections.length], ["", 0]);
  for (const text of ["", "{}", "[]"]) throws(() => parseThunderbolt(text, known), text);
  equal(parseThunderbolt(profile(), known).idents.length, 0);
});

import { z } from "zod";
import type { ThunderboltIdent } from "../../core/node_info.ts";

/** Up to this speed, Thunderbolt 4's, RDMA devices are there and crash when they are used. */
export const RDMA_GIGABITS_MIN = 40;

/** How deep hubs may stand behind hubs: more than Thunderbolt allows. */
const DEPTH_MAX = 8;

const Receptacle = z.object({
  receptacle_id_key: z.string().optional(),
  current_speed_key: z.string().optional(),
});

const Bus = z.object({
  domain_uuid_key: z.string(),
  receptacle_1_tag: Receptacle.optional(),
  _items: z.array(z.unknown()).optional(),
});

const Item = z.object({
  domain_uuid_key: z.string().optional(),
  _items: z.array(z.unknown()).optional(),
});

const Profile = z.object({ SPThunderboltDataType: z.array(z.unknown()) });

/** A cable, by the UUIDs of the ports at its ends. */
export interface ThunderboltConnection {
  readonly sourceUuid: string;
  readonly sinkUuid: string;
}

/** What a Mac's Thunderbolt ports are, and what is plugged into them. */
export interface ThunderboltPorts {
  readonly idents: ThunderboltIdent[];
  readonly connections: ThunderboltConnection[];
}

/**
 * The ports of `system_profiler SPThunderboltDataType -json`; `ports` is `parseHardwarePorts`. A
 * port whose device nobody knows is left out. Sorted.
 * @throws when the text is no such profile.
 */
export function parseThunderbolt(
  text: string,
  ports: ReadonlyMap<string, string>,
): ThunderboltPorts {
  const idents: ThunderboltIdent[] = [];
  const connections: ThunderboltConnection[] = [];
  for (const raw of Profile.parse(JSON.parse(text)).SPThunderboltDataType) {
    const bus = Bus.safeParse(raw).data;
    const receptacle = bus?.receptacle_1_tag;
    const port = `Thunderbolt ${receptacle?.receptacle_id_key}`;
    const device = [...ports].find(([, name]) => name === port)?.[0];
    if (!bus || !receptacle || device === undefined) continue;
    const { domain_uuid_key: domainUuid, _items = [] } = bus;
    const linkSpeed = receptacle.current_speed_key ?? "";
    idents.push({ rdmaInterface: `rdma_${device}`, domainUuid, linkSpeed });
    const sinkUuid = peerOf(_items);
    if (sinkUuid === undefined || gigabitsOf(linkSpeed) <= RDMA_GIGABITS_MIN) continue;
    connections.push({ sourceUuid: domainUuid, sinkUuid });
  }
  const byUuid = (a: string, b: string) => a < b ? -1 : 1;
  idents.sort((a, b) => byUuid(a.domainUuid, b.domainUuid));
  connections.sort((a, b) => byUuid(a.sourceUuid, b.sourceUuid));
  return { idents, connections };
}

/** The other machine's port: a hub shows it one level further down. */
function peerOf(items: readonly unknown[], depth = 0): string | undefined {
  if (depth > DEPTH_MAX) return undefined;
  const parsed = items.flatMap((raw) => Item.safeParse(raw).data ?? []);
  const here = parsed.find(({ domain_uuid_key }) => domain_uuid_key !== undefined);
  if (here) return here.domain_uuid_key;
  for (const { _items } of parsed) {
    const further = peerOf(_items ?? [], depth + 1);
    if (further !== undefined) return further;
  }
  return undefined;
}

/** Of `80 Gb/s` or `Up to 120 Gb/s`; 0 when it does not say. */
function gigabitsOf(speed: string): number {
  return Number(/(\d+(?:\.\d+)?)\s*Gb\/s/.exec(speed)?.[1] ?? 0);
}

import type { z } from "zod";
import type { Event } from "../../core/events.ts";
import { MetaInstanceId, type NodeId } from "../../core/ids.ts";
import type { Instance } from "../../core/instance.ts";
import { MetaInstance } from "../../core/meta_instance.ts";
import { cardOf, created, instanceOf, MODEL } from "./fixtures.ts";

export const metaId = (id: string) => MetaInstanceId.parse(id);

/** A wish for {@linkcode MODEL} whose card is known, with the rest filled in. */
export function metaOf(id: string, fields: Partial<z.input<typeof MetaInstance>> = {}) {
  const modelCard = cardOf();
  return MetaInstance.parse({ metaInstanceId: id, modelId: MODEL, modelCard, ...fields });
}

export function wished(metaInstance: MetaInstance): Event {
  return { type: "MetaInstanceCreated", metaInstance };
}

/** The instance as it was made for a wish. */
export function boundTo(meta: string, instance: Instance): Instance {
  return { ...instance, metaInstanceId: metaId(meta) };
}

/** An instance for a wish, on these nodes. */
export function createdFor(meta: string, id: string, nodeIds?: readonly NodeId[]): Event {
  return created(boundTo(meta, instanceOf(id, nodeIds)));
}

/** A way from a node to another. */
export function edge(source: NodeId, sink: NodeId, ip: string): Event {
  const sinkMultiaddr = `/ip4/${ip}/tcp/52414`;
  const connection = { source, sink, edge: { type: "SocketConnection" as const, sinkMultiaddr } };
  return { type: "TopologyEdgeCreated", connection };
}

import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { CommandId, InstanceId, InstanceLinkId } from "../core/ids.ts";
import { type InstanceLink, LINK_INSTANCES_MAX } from "../core/instance_link.ts";
import { linkObstacle } from "../core/prefill_source.ts";
import type { State } from "../core/state.ts";
import { readJson } from "./body.ts";
import { parse } from "./errors.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";

/** Names the variable that switches the links on. */
export const DISAGGREGATION_VARIABLE = "ENABLE_DISAGGREGATION";

const ends = z.array(InstanceId).min(1).max(LINK_INSTANCES_MAX);

const LinkRequest = z.strictObject({ prefill_instances: ends, decode_instances: ends });

const LINK_EXAMPLES = { prefill_instances: ["INSTANCE_ID"], decode_instances: ["INSTANCE_ID"] };

/** Links from instances that prefill to instances that decode (spec §6). */
export function instanceLinkRoutes(router: Router, options: RouteOptions): void {
  const { gateway, limits, isDisaggregated } = options;
  router.get("/v1/feature-flags", (c) => c.json({ disaggregation: isDisaggregated }));
  router.get(
    "/v1/instance-links",
    (c) => {
      const state = gateway.state();
      const links = isDisaggregated ? [...state.instanceLinks.values()] : [];
      return c.json(links.map((link) => ({ ...link, ...obstaclesOf(state, link) })));
    },
  );
  const set = async (c: RouteContext, linkId: InstanceLinkId) => {
    requireEnabled(options);
    const body = parse(LinkRequest, await readJson(c.req.raw, limits), LINK_EXAMPLES);
    const commandId = CommandId.parse(gateway.newId());
    await gateway.submit({
      type: "SetInstanceLink",
      commandId,
      linkId,
      prefillInstances: [...new Set(body.prefill_instances)],
      decodeInstances: [...new Set(body.decode_instances)],
    });
    return c.json(accepted(commandId, linkId));
  };
  router.post("/v1/instance-links", (c) => set(c, InstanceLinkId.parse(gateway.newId())));
  router.put(
    "/v1/instance-links/:id",
    (c) =>
      set(
        c,
        parse(
          InstanceLinkId,
          c.req.param("id"),
          "name the link by an id of 128 characters at most",
        ),
      ),
  );
  router.delete("/v1/instance-links/:id", async (c) => {
    requireEnabled(options);
    const linkId = c.req.param("id") as InstanceLinkId;
    if (!gateway.state().instanceLinks.has(linkId)) {
      throw new AppError("not_found", "Instance link not found", {
        hint: "GET /v1/instance-links shows what there is",
      });
    }
    const commandId = CommandId.parse(gateway.newId());
    await gateway.submit({ type: "DeleteInstanceLink", commandId, linkId });
    return c.json(accepted(commandId, linkId));
  });
}

/** Why instances of a link take no part in it, where that is so. */
function obstaclesOf(
  state: State,
  link: InstanceLink,
): { obstacles?: Record<string, string> } {
  const ends = [
    ...link.prefillInstances.map((id) => [id, "prefill"] as const),
    ...link.decodeInstances.map((id) => [id, "decode"] as const),
  ];
  const obstacles = ends.flatMap(([id, end]) => {
    const instance = state.instances.get(id);
    const obstacle = instance && linkObstacle(state, instance, { end, link });
    return obstacle ? [[id, obstacle] as const] : [];
  });
  return obstacles.length > 0 ? { obstacles: Object.fromEntries(obstacles) } : {};
}

function requireEnabled({ isDisaggregated }: RouteOptions): void {
  if (isDisaggregated) return;
  const message = `Cannot link instances: found ${DISAGGREGATION_VARIABLE} unset, true needed`;
  const hint = `start the node with ${DISAGGREGATION_VARIABLE}=true exo serve`;
  throw new AppError("not_found", message, { hint });
}

function accepted(commandId: CommandId, linkId: InstanceLinkId): object {
  return { message: "Command received.", command_id: commandId, link_id: linkId };
}

import assert from "node:assert/strict";

/** Links instances of a node with `ENABLE_DISAGGREGATION`; resolves with the link's id. */
export function setLink(
  url: string,
  prefillInstances: readonly string[],
  decodeInstances: readonly string[],
): Promise<string> {
  const body = bodyOf({ prefillInstances, decodeInstances });
  return ask(`${url}/v1/instance-links`, { method: "POST", body });
}

interface Ends {
  readonly prefillInstances: readonly string[];
  readonly decodeInstances: readonly string[];
}

/** Gives a link other ends. */
export async function replaceLink(url: string, linkId: string, ends: Ends): Promise<void> {
  await ask(`${url}/v1/instance-links/${linkId}`, { method: "PUT", body: bodyOf(ends) });
}

function bodyOf({ prefillInstances, decodeInstances }: Ends): string {
  return JSON.stringify({
    prefill_instances: prefillInstances,
    decode_instances: decodeInstances,
  });
}

/** Takes a link away. */
export async function deleteLink(url: string, linkId: string): Promise<void> {
  await ask(`${url}/v1/instance-links/${linkId}`, { method: "DELETE" });
}

async function ask(url: string, init: RequestInit): Promise<string> {
  const reply = await fetch(url, { ...init, headers: { "content-type": "application/json" } });
  const answer = await reply.json();
  assert.ok(reply.ok, `${init.method} ${url}: ${JSON.stringify(answer)}`);
  return answer.link_id;
}

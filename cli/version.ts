import config from "../deno.json" with { type: "json" };

/** Version of exo, as `deno.json` names it. */
export const VERSION: string = config.version;

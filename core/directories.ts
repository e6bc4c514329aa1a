/** Operating systems by the names that `Deno.build.os` gives them. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly os: string;
  /** The user's home directory, absolute. */
  readonly home: string;
}

/** Where this node keeps what it writes. */
export interface Directories {
  readonly config: string;
  readonly data: string;
  readonly cache: string;
}

/**
 * The three homes: `EXO_HOME` for all of them, else XDG on Linux and the platform's own on macOS.
 * A relative `EXO_HOME` is joined to the home directory; a relative XDG path is ignored, as the
 * XDG specification asks.
 */
export function directories({ env, os, home }: Surroundings): Directories {
  const own = env["EXO_HOME"];
  if (own) {
    const all = under(home, own);
    return { config: all, data: all, cache: all };
  }
  if (os === "darwin") {
    const support = `${home}/Library/Application Support/exo`;
    return { config: support, data: support, cache: `${home}/Library/Caches/exo` };
  }
  if (os !== "linux") {
    const all = `${home}/.exo`;
    return { config: all, data: all, cache: all };
  }
  const xdg = (name: string, fallback: string): string => {
    const value = env[name];
    return `${value?.startsWith("/") ? trimmed(value) : `${home}/${fallback}`}/exo`;
  };
  return {
    config: xdg("XDG_CONFIG_HOME", ".config"),
    data: xdg("XDG_DATA_HOME", ".local/share"),
    cache: xdg("XDG_CACHE_HOME", ".cache"),
  };
}

/** The file that holds the API key of a node on this machine. */
export function apiKeyFile({ data }: Directories): string {
  return `${data}/api-key`;
}

/** `EXO_RESOURCES_DIR`: the files that come with exo, for who develops them; undefined: their own. */
export function resourcesDirectory({ env, home }: Pick<Surroundings, "env" | "home">) {
  const own = env["EXO_RESOURCES_DIR"];
  return own ? under(home, own) : undefined;
}

function under(home: string, path: string): string {
  const full = tilde(home, path);
  return full.startsWith("/") ? full : `${home}/${full}`;
}

function tilde(home: string, path: string): string {
  const full = path === "~" || path.startsWith("~/") ? home + path.slice(1) : path;
  return trimmed(full);
}

/** Without trailing slashes, so that equal directories are equal strings. */
function trimmed(path: string): string {
  return path.replace(/(?<=.)\/+$/, "");
}

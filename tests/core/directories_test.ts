import { deepEqual, equal } from "node:assert/strict";
import { apiKeyFile, directories, resourcesDirectory } from "../../core/directories.ts";

const HOME = "/home/ada";
const linux = (env: Record<string, string> = {}) => ({ env, os: "linux", home: HOME });
const mac = (env: Record<string, string> = {}) => ({ env, os: "darwin", home: "/Users/ada" });

Deno.test("directories() follows XDG on Linux", () => {
  const env = { XDG_CONFIG_HOME: "/c", XDG_DATA_HOME: "/d/", XDG_CACHE_HOME: "/e" };
  deepEqual(directories(linux(env)), { config: "/c/exo", data: "/d/exo", cache: "/e/exo" });
});

Deno.test("directories() falls back to the XDG defaults, also for relative paths", () => {
  const expected = {
    config: "/home/ada/.config/exo",
    data: "/home/ada/.local/share/exo",
    cache: "/home/ada/.cache/exo",
  };
  deepEqual(directories(linux()), expected);
  deepEqual(directories(linux({ XDG_DATA_HOME: "relative", XDG_CACHE_HOME: "" })), expected);
});

Deno.test("directories() lets EXO_HOME replace all three, relative to the home directory", () => {
  for (const xdg of [{}, { XDG_DATA_HOME: "/d" }]) {
    const own = "/home/ada/.custom-exo";
    const found = directories(linux({ EXO_HOME: ".custom-exo", ...xdg }));
    deepEqual(found, { config: own, data: own, cache: own });
  }
  equal(directories(linux({ EXO_HOME: "/srv/exo/" })).data, "/srv/exo");
  equal(directories(linux({ EXO_HOME: "~/x" })).data, "/home/ada/x");
  equal(directories(linux({ EXO_HOME: "~" })).data, "/home/ada");
  for (const root of ["/", "///"]) equal(directories(linux({ EXO_HOME: root })).data, "/");
});

Deno.test("directories() keeps to the conventions of macOS, and to ~/.exo elsewhere", () => {
  const support = "/Users/ada/Library/Application Support/exo";
  const cache = "/Users/ada/Library/Caches/exo";
  deepEqual(directories(mac({ XDG_DATA_HOME: "/d" })), { config: support, data: support, cache });
  equal(directories({ env: {}, os: "freebsd", home: HOME }).data, "/home/ada/.exo");
});

Deno.test("apiKeyFile() lies in the data directory", () => {
  equal(apiKeyFile(directories(linux({ EXO_HOME: "/x" }))), "/x/api-key");
});

Deno.test("EXO_RESOURCES_DIR is joined to the home folder, or replaces it", () => {
  const at = (env: Record<string, string>) => resourcesDirectory({ env, home: "/home/ada" });
  equal(at({}), undefined);
  equal(at({ EXO_RESOURCES_DIR: "" }), undefined);
  equal(at({ EXO_RESOURCES_DIR: "/opt/exo//" }), "/opt/exo");
  equal(at({ EXO_RESOURCES_DIR: "/" }), "/");
  equal(at({ EXO_RESOURCES_DIR: "//" }), "/");
  equal(at({ EXO_RESOURCES_DIR: "~/res" }), "/home/ada/res");
  equal(at({ EXO_RESOURCES_DIR: "res" }), "/home/ada/res");
});

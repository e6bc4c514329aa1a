import { breakFolder, BROKEN_FOLDERS } from "./broken_folders.ts";
import { BROKEN_GGUFS } from "./broken_ggufs.ts";
import type { Told } from "./told.ts";
import type { World } from "./world.ts";

/** Files and folders that are added and cannot be models. */
export async function brokenModels(world: World): Promise<Told[]> {
  const told: Told[] = [];
  const add = async (name: string, path: string) => {
    const request = { name, path: "/models/add", body: { path } };
    const { by: _, ...rest } = await world.tell(request);
    told.push({ ...rest, by: `exo models add ${path}` });
  };
  const { dir } = world;
  await add("a path where nothing is", `${dir}/nothing.gguf`);
  await add("a path below a file", `${dir}/data/identity.key/model.gguf`);
  await add("a folder that is no checkpoint", `${dir}/data`);
  await add("a file of another kind", `${dir}/data/identity.key`);
  await add("a device", "/dev/null");
  for (const [name, bytes] of Object.entries(BROKEN_GGUFS)) {
    await Deno.writeFile(`${dir}/model.gguf`, bytes);
    await add(name, `${dir}/model.gguf`);
  }
  for (const [name, change] of Object.entries(BROKEN_FOLDERS)) {
    const folder = `${dir}/checkpoint`;
    await breakFolder(folder, change);
    await add(name, folder);
    await Deno.remove(folder, { recursive: true });
  }
  return told;
}

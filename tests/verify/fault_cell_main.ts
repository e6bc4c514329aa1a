/** One cell of the fault matrix: `fault_cell_main.ts CELL`, as JSON; prints a `CellReport`. */
import { TempDir } from "../support/temp_dir.ts";
import { measureCell } from "./fault_cell.ts";

const [cell = ""] = Deno.args;
await using dir = await TempDir.make();
const report = await measureCell(JSON.parse(cell), dir.path);
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(report)));

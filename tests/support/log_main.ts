/** Appends events to the log of `DATA_DIR` for ever, and says the index of each that is stored. */
import { EMPTY_STATE } from "../../core/state.ts";
import { apply } from "../../core/apply.ts";
import { EventLog } from "../../node/event_log.ts";
import { A, created, instanceOf } from "./fixtures.ts";

const epoch = { clock: 1, nodeId: A };
const log = EventLog.open(Deno.env.get("DATA_DIR") ?? "");
let state = EMPTY_STATE;
while (true) {
  const idx = state.lastEventAppliedIdx + 1;
  const event = { idx, epoch, event: created(instanceOf(`i${idx % 10}`)) };
  log.store([{ type: "Persist", events: [event] }]);
  state = apply(state, event);
  log.compact(state, epoch);
  Deno.stdout.writeSync(new TextEncoder().encode(`${idx}\n`));
}

/** Acknowledges each command that comes down the runner's pipes, until the node is gone. */
import { CommandQueue } from "../../engines/command_queue.ts";
import { readCommands, reportWriter } from "../../engines/pipes.ts";

const queue = new CommandQueue();
readCommands(queue);
const { emit, flush } = reportWriter();
for (let next = await queue.next(); next !== "closed"; next = await queue.next()) {
  emit({ type: "Ack", incarnation: next.incarnation, taskId: next.taskId });
}
emit({ type: "RunnerError", incarnation: 1, reason: "the node is gone" });
await flush();
Deno.exit(0);

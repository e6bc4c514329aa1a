import { deepEqual, equal } from "node:assert/strict";
import {
  kindsByCapacity,
  ONE_KIND,
  parseCpuList,
  parseProcStat,
  usageBetween,
} from "../../../node/info/cpu_usage.ts";
import { golden } from "../../support/fake_machine.ts";

Deno.test("two readings of /proc/stat tell how busy the cores were between them", async () => {
  const before = parseProcStat(await golden("linux_proc_stat_1.txt"));
  const after = parseProcStat(await golden("linux_proc_stat_2.txt"));
  equal(before.length, 2, "the sum of all is no core");
  const usage = usageBetween(before, after) as number;
  const each = [0, 1].map((core) => usageBetween(before, after, (one) => one === core) as number);
  equal(usage > 0 && usage <= 1, true);
  equal(Math.min(...each) <= usage && usage <= Math.max(...each), true);
});

Deno.test("waiting for a disk is not busy, being stolen from is, a guest counts once", () => {
  const before = parseProcStat("cpu0 0 0 0 0 0 0 0 0 0 0\n");
  const waiting = parseProcStat("cpu0 10 0 10 60 20 0 0 0 10 0\n");
  equal(usageBetween(before, waiting), 0.2);
  const stolen = parseProcStat("cpu0 0 0 0 50 0 0 0 50 0 0\n");
  equal(usageBetween(before, stolen), 0.5);
});

Deno.test("no time, no cores and other cores than before have no usage", () => {
  const core = { busy: 5, total: 10 };
  equal(usageBetween([core], [core]), undefined);
  equal(usageBetween([], [core]), undefined);
  equal(usageBetween([core], []), undefined);
  equal(usageBetween([core], [{ busy: 1, total: 2 }]), undefined, "it was switched off and on");
});

Deno.test("a core that is switched off leaves a gap in /proc/stat, not in the numbers", () => {
  const cores = parseProcStat("cpu0 1 0 0 1\ncpu2 3 0 0 1\n");
  deepEqual(cores, [{ busy: 1, total: 2 }, { busy: 0, total: 0 }, { busy: 3, total: 4 }]);
});

Deno.test("lists of the kernel's are numbers and ranges", () => {
  deepEqual([...parseCpuList("0-3,8\n")], [0, 1, 2, 3, 8]);
  deepEqual([...parseCpuList("\n")], []);
});

Deno.test("the cores that can do most are the fast ones, where not all can do the same", () => {
  const kinds = kindsByCapacity([446, 446, 1024, 1024]);
  deepEqual([[...kinds.performance], [...kinds.efficiency]], [[2, 3], [0, 1]]);
  deepEqual(kindsByCapacity([1024, 1024]), ONE_KIND);
  deepEqual(kindsByCapacity([]), ONE_KIND);
  const withGap = kindsByCapacity([446, undefined, 1024]);
  deepEqual([[...withGap.performance], [...withGap.efficiency]], [[2], [0]]);
});

import { equal, ok } from "node:assert/strict";
import { busyPercent, childrenOf, usageOf } from "../../bench/process_usage.ts";

const ignore = Deno.build.os !== "linux";
const never = new AbortController().signal;

Deno.test({
  name: "usageOf() knows memory and CPU of a process, and nothing of one that is not there",
  ignore,
  fn() {
    const usage = usageOf(Deno.pid);
    if (!usage) throw new Error("no usage");
    const { residentBytes, peakBytes, cpuSeconds } = usage;
    const now = Deno.memoryUsage().rss;
    // The kernel counts in batches: two looks differ by some pages.
    ok(Math.abs(residentBytes - now) < 0.2 * now, `${residentBytes} and ${now}`);
    ok(peakBytes > 0.8 * residentBytes);
    ok(cpuSeconds > 0 && cpuSeconds < 10_000);
    equal(usageOf(2 ** 30), null);
  },
});

Deno.test({
  name: "childrenOf() lists the processes that a process has started",
  ignore,
  async fn() {
    const child = new Deno.Command("sleep", { args: ["1000"] }).spawn();
    ok(childrenOf(Deno.pid).includes(child.pid));
    child.kill("SIGKILL");
    await child.status;
    ok(!childrenOf(Deno.pid).includes(child.pid));
    equal(childrenOf(2 ** 30).length, 0);
  },
});

Deno.test({
  name: "busyPercent() is a share of all cores",
  ignore,
  async fn() {
    const percent = await busyPercent(50, never);
    ok(percent !== null && percent >= 0 && percent <= 100, `${percent}`);
  },
});

import { deepEqual, equal } from "node:assert/strict";
import { cgroupMemory } from "../../core/cgroup_memory.ts";

const read = (files: Record<string, string>) => (path: string) => files[path];

Deno.test("cgroupMemory() knows nothing where there are no control groups", () => {
  equal(cgroupMemory(read({})), undefined);
  equal(cgroupMemory(read({ "/proc/self/cgroup": "0::/\n" })), undefined);
});

Deno.test("cgroupMemory() reads the group of version 2 and the groups around it", () => {
  const files = {
    "/proc/self/cgroup": "0::/user.slice/app.scope\n",
    "/sys/fs/cgroup/user.slice/app.scope/memory.max": "max\n",
    "/sys/fs/cgroup/user.slice/app.scope/memory.current": "50\n",
    "/sys/fs/cgroup/user.slice/memory.max": "1000\n",
    "/sys/fs/cgroup/user.slice/memory.current": "700\n",
    "/sys/fs/cgroup/user.slice/memory.stat": "anon 500\ninactive_file 150\n",
  };
  // What is cached of files goes first, so that it is free.
  deepEqual(cgroupMemory(read(files)), { limitBytes: 1000, availableBytes: 450 });
});

Deno.test("cgroupMemory() believes no limit whose use it cannot read", () => {
  const files = { "/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "1000" };
  equal(cgroupMemory(read(files)), undefined);
});

Deno.test("cgroupMemory() takes the tightest of several limits", () => {
  const files = {
    "/proc/self/cgroup": "0::/a\n",
    "/sys/fs/cgroup/a/memory.max": "2000",
    "/sys/fs/cgroup/a/memory.current": "100",
    "/sys/fs/cgroup/memory.max": "1000",
    "/sys/fs/cgroup/memory.current": "999",
  };
  deepEqual(cgroupMemory(read(files)), { limitBytes: 1000, availableBytes: 1 });
});

Deno.test("cgroupMemory() reads version 1, whose groups without a limit have a huge one", () => {
  const files = {
    "/proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/pods/me\n0::/\n",
    "/sys/fs/cgroup/memory/pods/me/memory.limit_in_bytes": "600",
    "/sys/fs/cgroup/memory/pods/me/memory.usage_in_bytes": "500",
    "/sys/fs/cgroup/memory/pods/me/memory.stat": "inactive_file 1\ntotal_inactive_file 40\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "9000",
  };
  deepEqual(cgroupMemory(read(files)), { limitBytes: 600, availableBytes: 140 });
});

Deno.test("cgroupMemory() looks at the root where a namespace hides the group", () => {
  const files = {
    "/proc/self/cgroup": "4:memory:/../other/me\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "600",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "700",
  };
  deepEqual(cgroupMemory(read(files)), { limitBytes: 600, availableBytes: 0 });
});

import { NodeId } from "../../core/ids.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { transportConformance } from "../conformance/transport.ts";

transportConformance("memory", () => {
  const network = new MemoryNetwork();
  return Promise.resolve({
    a: network.join(NodeId.parse("node-a")),
    b: network.join(NodeId.parse("node-b")),
    settled: () => Promise.resolve(),
  });
});

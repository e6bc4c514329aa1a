/** Sums by MLX run the suite of all groups; its ring of TCP stands for RDMA. */
import { testGroup } from "../../conformance/group.ts";
import { MLX_PEER_MAIN } from "../../support/programs.ts";

testGroup({ name: "MlxGroup", main: MLX_PEER_MAIN });

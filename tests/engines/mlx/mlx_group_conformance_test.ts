/** MLX's ring runs the suite of all groups, but for its time limits: it has none. */
import { testGroup } from "../../conformance/group.ts";
import { MLX_PEER } from "../../support/mlx_ranks.ts";

testGroup({ name: "MlxGroup over a ring", main: MLX_PEER, isWatched: false });

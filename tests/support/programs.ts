/** Programs that tests start as processes of their own. */
const pathOf = (file: string) => new URL(file, import.meta.url).pathname;

export const ODD_RUNNER = pathOf("./odd_runner.ts");
export const CROWDED_API_MAIN = pathOf("./crowded_api_main.ts");
export const LOG_MAIN = pathOf("./log_main.ts");
export const GROUP_PEER_MAIN = pathOf("./group_peer_main.ts");
export const MLX_PEER_MAIN = pathOf("./mlx_peer_main.ts");
export const GROUP_RANK_MAIN = pathOf("./group_rank_main.ts");
export const RUNNER_MAIN = pathOf("./runner_main.ts");
export const PIPES_MAIN = pathOf("./pipes_main.ts");

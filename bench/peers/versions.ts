/** Packages that the peers are made of, pinned so that two runs compare the same programs. */
export const PEER_PACKAGES = {
  /** npm: carries the source of llama.cpp (v0.5.0 in this one) as a git bundle. */
  "node-llama-cpp": "3.22.1",
  /** PyPI: builds llama.cpp. */
  cmake: "4.4.4",
  /** PyPI. */
  "mlx-lm": "0.32.2",
  /** PyPI: the version that exo itself uses. */
  mlx: "0.32.4",
} as const;

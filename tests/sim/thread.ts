/** A thread of `main.ts`: runs the seeds that it is given. */
import { simulate } from "./simulate.ts";

/** Seeds `from` to `to`. */
interface Batch {
  readonly from: number;
  readonly to: number;
  readonly nodes?: number;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<Batch>) => void;
  postMessage: (results: unknown) => void;
};

scope.onmessage = ({ data: { from, to, nodes } }) => {
  const seeds = Array.from({ length: to - from + 1 }, (_, at) => from + at);
  scope.postMessage(seeds.map((seed) => simulate({ seed, nodes })));
};

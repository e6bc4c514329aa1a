/** Neighbours of each node, by index. */
export type Adjacency = readonly (readonly number[])[];

/**
 * The biconnected components of three nodes or more of an undirected graph (Hopcroft and Tarjan,
 * 1973): every cycle through three nodes or more lies in one of them. Each is ascending.
 */
export function blocks(adjacency: Adjacency): number[][] {
  const depth = new Int32Array(adjacency.length).fill(-1);
  const low = new Int32Array(adjacency.length);
  const found: number[][] = [];
  for (const root of adjacency.keys()) {
    if (depth[root] === -1) explore(root, { adjacency, depth, low, found });
  }
  return found;
}

interface Frame {
  readonly node: number;
  readonly parent: number;
  next: number;
}

/** A walk without recursion: graphs may be deeper than a stack. */
function explore(
  root: number,
  { adjacency, depth, low, found }: {
    adjacency: Adjacency;
    depth: Int32Array;
    low: Int32Array;
    found: number[][];
  },
): void {
  const frames: Frame[] = [{ node: root, parent: -1, next: 0 }];
  const open = [root];
  depth[root] = low[root] = 0;
  for (let frame = frames.at(-1); frame; frame = frames.at(-1)) {
    const { node, parent } = frame;
    const neighbour = adjacency[node]?.[frame.next++];
    if (neighbour === undefined) {
      frames.pop();
      if (parent < 0) continue;
      low[parent] = Math.min(low[parent] as number, low[node] as number);
      if ((low[node] as number) < (depth[parent] as number)) continue;
      const block = [...open.splice(open.indexOf(node)), parent];
      if (block.length > 2) found.push(block.sort((a, b) => a - b));
    } else if (depth[neighbour] === -1) {
      depth[neighbour] = low[neighbour] = frames.length;
      frames.push({ node: neighbour, parent: node, next: 0 });
      open.push(neighbour);
    } else if (neighbour !== parent) {
      low[node] = Math.min(low[node] as number, depth[neighbour] as number);
    }
  }
}

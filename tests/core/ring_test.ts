import { deepEqual } from "node:assert/strict";
import { ringPieces } from "../../core/ring.ts";

Deno.test("bytes of a ring lie in one piece, or in two around its end", () => {
  deepEqual(ringPieces(10, 0, 10), [{ offset: 0, length: 10 }]);
  deepEqual(ringPieces(10, 23, 4), [{ offset: 3, length: 4 }]);
  deepEqual(ringPieces(10, 27, 3), [{ offset: 7, length: 3 }]);
  deepEqual(ringPieces(10, 27, 5), [{ offset: 7, length: 3 }, { offset: 0, length: 2 }]);
});

// What packers of matrices share.
#pragma once
#include <algorithm>

#include "shim_native.h"

namespace shim {

/** Rows that are packed at a time by one thread. */
constexpr int ROWS_PER_CHUNK = 8 * ek::PANEL;

/** Calls pack(begin, end) for stretches of rows, on all threads of the pool. */
template <class F>
void pack_rows(int rows, F&& pack) {
  const int chunks = (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK;
  ek::shared_pool().run(chunks, [&](int chunk) {
    pack(chunk * ROWS_PER_CHUNK, std::min(rows, (chunk + 1) * ROWS_PER_CHUNK));
  });
}

}  // namespace shim

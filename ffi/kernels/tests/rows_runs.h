// What the tests of row functions share: a function run on all rows at once and on each alone, on
// every instruction set.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "rows_cache.h"

namespace exo::kernels::testing {

constexpr float INF = std::numeric_limits<float>::infinity();
inline const float NOT_A_NUMBER = std::nanf("");

inline bool is_short = false;

/** Widths of rows around the sixteen lanes. */
inline std::vector<int> widths() {
  if (is_short) return {1, 17, 100};
  return {1, 2, 15, 16, 17, 31, 33, 64, 100, 576, 577};
}

/** The error, relative to numbers above 1. */
inline double relative(float found, double wanted) {
  return std::fabs(double(found) - wanted) / std::fmax(1.0, std::fabs(wanted));
}

/** One function of rows, for any instruction set: from x [rows, width], y likewise, to out. */
using Call = std::function<void(const RowKernels&, ConstRows x, ConstRows y, Rows out, int width,
                                int begin, int end)>;

/**
 * Runs `call` on all rows at once and on each alone, on every instruction set, and wants equal
 * bits; then with NaN or Inf in one row, and wants the others untouched. Returns the outcome.
 */
inline std::vector<float> run_rows(const char* name, const Call& call, const std::vector<float>& x,
                            const std::vector<float>& y, int width, int rows) {
  const size_t stride = size_t(width) + 3;  // Nothing may be written between rows.
  const auto strided = [&](const std::vector<float>& packed) {
    std::vector<float> wide(stride * size_t(rows) + 16, -77.0f);
    for (int r = 0; r < rows; r++) {
      memcpy(wide.data() + size_t(r) * stride, packed.data() + size_t(r) * size_t(width),
             size_t(width) * 4);
    }
    return wide;
  };
  const auto run = [&](Isa isa, const std::vector<float>& a, bool alone) {
    const std::vector<float> b = strided(y);
    std::vector<float> out(a.size(), -55.0f);
    const ConstRows xs{a.data(), stride}, ys{b.data(), stride};
    const Rows outs{out.data(), stride};
    if (!alone) call(row_kernels(isa), xs, ys, outs, width, 0, rows);
    for (int r = 0; alone && r < rows; r++) {
      call(row_kernels(isa), xs, ys, outs, width, r, r);  // No row at all.
      call(row_kernels(isa), xs, ys, outs, width, r, r + 1);
    }
    return out;
  };
  const std::vector<float> first = strided(x), wanted = run(Isa::scalar, first, false);
  for (Isa isa : supported_isas()) {
    for (bool alone : {false, true}) {
      const std::vector<float> found = run(isa, first, alone);
      const bool same = std::equal(found.begin(), found.end(), wanted.begin(), same_value);
      check(same, "%s, %s, width %d: %s differs", isa_name(isa), name, width,
            alone ? "a row alone" : "an instruction set");
    }
    for (float odd : {NOT_A_NUMBER, INF, -INF}) {
      std::vector<float> spoiled = first;
      spoiled[stride + size_t(width) / 2] = odd;
      const std::vector<float> found = run(isa, spoiled, false);
      bool others = true;
      for (size_t i = 0; i < found.size(); i++) {
        if (i / stride != 1) others = others && same_value(found[i], wanted[i]);
      }
      check(others, "%s, %s, width %d: %g in one row shows in another", isa_name(isa), name, width,
            double(odd));
    }
  }
  std::vector<float> packed;
  for (int r = 0; r < rows; r++) {
    for (int i = 0; i < width; i++) packed.push_back(wanted[size_t(r) * stride + size_t(i)]);
  }
  return packed;
}

}  // namespace exo::kernels::testing

// Tests of sampling on every instruction set of this machine: the generator against published
// words, draws and filters against formulas in double precision, and every instruction set against
// scalar, bit for bit. Argument "short": smaller vocabularies.
#include <numeric>

#include "../sample.h"
#include "../threefry.h"
#include "rows_runs.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

/** Source: Random123 1.14, tests/kat_vectors, threefry2x32 with 20 rounds. */
void test_threefry() {
  const auto is = [](Words counter, Words key, Words wanted) {
    check(threefry(key, counter) == wanted, "threefry(%x...) is not as published", key[0]);
  };
  is({0, 0}, {0, 0}, {0x6b200159, 0x99ba4efe});
  is({~0u, ~0u}, {~0u, ~0u}, {0x1cb996fc, 0xbb002be7});
  is({0x243f6a88, 0x85a308d3}, {0x13198a2e, 0x03707344}, {0xc4923a9c, 0x483df7a0});
  check(uniform_at(0, 0) == double(0x6b20015999ba4efe >> 11) * 0x1p-53, "uniform_at(0, 0)");
}

/** A row of logits, and its numbers in order: likeliest first, then by id. */
struct Vocabulary {
  std::vector<float> x;
  std::vector<int32_t> order;
  std::vector<double> weights;  // In that order, at temperature 1.
  double total = 0;

  explicit Vocabulary(std::vector<float> logits) : x(std::move(logits)) {
    for (size_t i = 0; i < x.size(); i++) {
      if (x[i] > -INF) order.push_back(int32_t(i));
    }
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return x[size_t(a)] > x[size_t(b)];
    });
    for (int32_t id : order) {
      weights.push_back(std::exp(double(x[size_t(id)]) - double(largest())));
      total += weights.back();
    }
  }

  float largest() const { return x[size_t(order[0])]; }

  /** How many the filters keep, by the rule. */
  size_t count_kept(const Filters& filters, double slack) const {
    double likelier = 0;
    for (size_t i = 0; i < order.size(); i++) {
      if (filters.top_p < 1 && !(likelier < (filters.top_p + slack) * total)) return i;
      if (filters.min_p > 0 && weights[i] < filters.min_p * (1 - slack)) return i;
      if (filters.top_k > 0 && int(i) >= filters.top_k) return i;
      likelier += weights[i];
    }
    return order.size();
  }
};

void test_filter(Isa isa, const Vocabulary& all, const Filters& filters) {
  const int width = int(all.x.size());
  Kept found, scalar;
  std::vector<Candidate> candidates;
  filter(row_kernels(isa), filters, all.x.data(), width, all.largest(), found, candidates);
  if (isa != Isa::scalar) {
    const RowKernels& kernels = row_kernels(Isa::scalar);
    filter(kernels, filters, all.x.data(), width, all.largest(), scalar, candidates);
    check(found.ids == scalar.ids, "%s: filters keep other tokens", isa_name(isa));
  }
  // Where sums in f32 and f64 differ, a token more or less may be kept.
  const size_t least = all.count_kept(filters, -1e-6), most = all.count_kept(filters, 1e-6);
  const size_t count = found.ids.size();
  std::vector<int32_t> wanted(all.order.begin(), all.order.begin() + long(count));
  std::sort(wanted.begin(), wanted.end());
  check(count >= least && count <= most && found.ids == wanted,
        "%s: top_p %g, min_p %g, top_k %d of %d: %zu kept, not %zu to %zu", isa_name(isa),
        filters.top_p, filters.min_p, filters.top_k, width, count, least, most);
  bool are_own = true;
  for (size_t i = 0; i < count; i++) {
    are_own = are_own && found.values[i] == all.x[size_t(found.ids[i])];
  }
  check(are_own, "%s: another's value", isa_name(isa));
}

const std::vector<Vocabulary>& vocabularies() {
  const size_t width = is_short ? 3001 : 30011;
  std::vector<float> plain = noise(51, width, 5), peaked = plain, equal(width, 2.5f), odd = plain;
  std::vector<float> level = noise(52, width, 0.3f), rounded = plain;
  for (float& value : peaked) value *= 8;
  for (float& value : rounded) value = std::round(value * 2) / 2;
  for (size_t i = 0; i < width; i += 3) odd[i] = i % 2 ? NOT_A_NUMBER : -INF;
  std::vector<float> far = plain;
  far[width / 2] = 1e9f;
  static std::vector<Vocabulary> all;
  if (!all.empty()) return all;
  for (const auto& x : {plain, peaked, equal, odd, level, rounded, far}) all.emplace_back(x);
  all.emplace_back(std::vector<float>{1.5f});
  all.emplace_back(std::vector<float>{-INF, 0, NOT_A_NUMBER});
  return all;
}

void test_filters(Isa isa) {
  for (const Vocabulary& all : vocabularies()) {
    for (double top_p : {1.0, 0.999, 0.9, 1e-12}) {
      for (double min_p : {0.0, 0.02, 1.0}) {
        for (int top_k : {0, 1, 50, 1025, 2500}) test_filter(isa, all, {top_p, min_p, top_k});
      }
    }
  }
}

/** Draws lie where the running sum of weights says, and are the same on every instruction set. */
void test_draws(Isa isa) {
  SampleBench bench;
  for (const Vocabulary& all : vocabularies()) {
    const std::vector<float>& x = all.x;
    const int width = int(x.size());
    for (double temperature : {0.7, 1e-40, 100.0}) {
      std::vector<double> until{0};  // Running sums of weights.
      for (float value : x) {
        const double below = (double(value) - double(all.largest())) / temperature;
        until.push_back(until.back() + (std::isnan(below) ? 0.0 : std::exp(below)));
      }
      for (uint64_t index = 0; index < 10; index++) {
        SampleArgs args{x.data(), width, temperature, {}, 1, nullptr, 0, 77, index, 20};
        const Sampled found = sample(row_kernels(isa), args, bench);
        const Sampled scalar = sample(row_kernels(Isa::scalar), args, bench);
        check(found.token.id == scalar.token.id && found.token.logprob == scalar.token.logprob &&
                  found.top_count == scalar.top_count &&
                  found.top[0].logprob == scalar.top[0].logprob,
              "%s: another token, or another log-probability", isa_name(isa));
        const double total = until.back(), target = uniform_at(77, index) * total;
        const size_t id = size_t(found.token.id);
        check(target > until[id] - 1e-6 * total && target < until[id + 1] + 1e-6 * total,
              "%s: token %d of %d at temperature %g", isa_name(isa), found.token.id, width,
              temperature);
      }
    }
  }
}

void test_logprobs(Isa isa) {
  SampleBench bench;
  const std::vector<float> x = noise(53, 1000, 4);
  double sum = 0;
  for (float value : x) sum += std::exp(double(value));
  const Adjustment changes[] = {{3, 1, 100}, {2000, 1, 5}, {-1, 0, 5}, {0, 0, -INFINITY}};
  SampleArgs args{x.data(), 1000, 0, {}, 2, changes, 4, 1, 0, 20};
  const Sampled found = sample(row_kernels(isa), args, bench);
  check(found.token.id == 3, "%s: a bias of 100", isa_name(isa));
  check(std::fabs(found.token.logprob - (double(x[3]) - std::log(sum))) < 1e-6,
        "%s: log-probability %g", isa_name(isa), found.token.logprob);
  check(found.top_count == 20, "%s: %d alternatives", isa_name(isa), found.top_count);
  for (int i = 0; i < found.top_count; i++) {
    const TokenLogprob& one = found.top[size_t(i)];
    const double wanted = double(x[size_t(one.id)]) - std::log(sum);
    check(std::fabs(one.logprob - wanted) < 1e-6, "%s: alternative %d", isa_name(isa), i);
    check(i == 0 || one.logprob <= found.top[size_t(i) - 1].logprob, "%s: order", isa_name(isa));
  }
}

void test_odd_rows(Isa isa) {
  SampleBench bench;
  for (const Filters& filters : {Filters{}, Filters{0.5, 0, 0}, Filters{1, 0.5, 0},
                                 Filters{1, 0, 1}, Filters{0, 2, 1}}) {
    for (double temperature : {0.0, 1.0}) {
      const auto draw = [&](const std::vector<float>& x) {
        SampleArgs args{x.data(), int(x.size()), temperature, filters, 1, nullptr, 0, 5, 9, 3};
        return sample(row_kernels(isa), args, bench);
      };
      const Sampled none = draw({NOT_A_NUMBER, -INF}), never = draw({NOT_A_NUMBER, NOT_A_NUMBER});
      check(none.token.id == -1 && never.token.id == -1 && draw({-INF, -INF}).token.id == -1,
            "%s: a token of nothing", isa_name(isa));
      if (filters.min_p > 1) continue;  // Nothing is promised but an end.
      const Sampled certain = draw({3, INF, NOT_A_NUMBER});
      check(certain.token.id == 1 && certain.token.logprob == 0 && certain.top_count == 1,
            "%s: a certain token", isa_name(isa));
      check(draw({-INF, -3e38f, NOT_A_NUMBER}).token.id == 1, "%s: the only token", isa_name(isa));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  is_short = argc > 1 && std::string(argv[1]) == "short";
  test_threefry();
  for (Isa isa : supported_isas()) {
    test_filters(isa);
    test_draws(isa);
    test_logprobs(isa);
    test_odd_rows(isa);
  }
  return summary();
}

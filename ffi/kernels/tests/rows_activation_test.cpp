// Tests of exp, tanh and the activations on every instruction set of this machine, as rows_test.cpp
// has it for the other functions of rows. Argument "short": a smaller grid.
#include "rows_runs.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

/**
 * The largest error of a function over many numbers, in ulp. Errors below 3e-37 do not count: where
 * exp(-x) is no f32 any more, x / (1 + exp(-x)) is 0.
 */
double worst_ulp(const RowKernels& kernels, Elementwise function, double (*wanted)(double)) {
  std::vector<float> x, out;
  const float step = is_short ? 1.37f : 1.0037f;
  for (float size = 1e-40f; size < 120; size *= step) x.push_back(size), x.push_back(-size);
  out.resize(x.size());
  const int width = int(x.size());
  kernels.elementwise(function, {{x.data(), 0}, {}, {out.data(), 0}, width, 0}, 0, 1);
  double worst = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double exact = wanted(double(x[i]));
    const float near = float(exact);
    const float ulp = std::nextafter(std::fabs(near), INF) - std::fabs(near);
    if (std::fabs(double(out[i]) - exact) < 3e-37) continue;
    worst = std::fmax(worst, std::fabs(double(out[i]) - exact) / double(ulp));
  }
  return worst;
}

void test_exp(Isa isa) {
  std::vector<float> x{0, -0.0f, INF, -INF, NOT_A_NUMBER, 88.7228f, 88.7229f, -103.97f, -103.98f};
  for (float v = -104; v < 89; v += is_short ? 0.097f : 0.00097f) x.push_back(v);
  std::vector<float> found(x.size());
  const int width = int(x.size());
  row_kernels(isa).elementwise(Elementwise::exp, {{x.data(), 0}, {}, {found.data(), 0}, width, 0},
                               0, 1);
  check(found[0] == 1 && found[1] == 1 && found[2] == INF && same_bits(found[3], 0) &&
            std::isnan(found[4]) && found[5] > 3.4e38f && found[5] < INF && found[6] == INF &&
            found[7] == 0x1p-149f && same_bits(found[8], 0),
        "%s: exp of odd numbers", isa_name(isa));
  double most = 0;
  for (size_t i = 9; i < x.size(); i++) {
    const double exact = std::exp(double(x[i]));
    const float near = float(exact);
    if (std::isinf(near)) continue;
    const double ulp = double(std::nextafter(near, INF)) - double(near);
    if (!std::isinf(ulp)) most = std::fmax(most, std::fabs(double(found[i]) - exact) / ulp);
  }
  check(most < 2, "%s: exp is off by %g ulp", isa_name(isa), most);
  // The softmax has one of its own; (0, x) shows it as a ratio.
  double worst = 0;
  for (float x = -86.5f; x < 0; x += is_short ? 0.37f : 0.0037f) {
    float row[2] = {0, x}, out[2];
    row_kernels(isa).softmax({{row, 2}, {out, 2}, 2}, 0, 1);
    const double exact = std::exp(double(x));
    worst = std::fmax(worst, std::fabs(double(out[1]) / double(out[0]) / exact - 1));
  }
  check(worst < 3 * 0x1p-23, "%s: exp in a softmax is off by %g", isa_name(isa), worst);
}

void test_functions(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  const auto expect = [&](const char* name, double found, double most) {
    check(found <= most, "%s, %s: off by %g ulp", isa_name(isa), name, found);
  };
  expect("tanh", worst_ulp(kernels, Elementwise::tanh, [](double x) { return std::tanh(x); }), 3);
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  expect("sigmoid", worst_ulp(kernels, Elementwise::sigmoid, sigmoid), 4);
  expect("silu", worst_ulp(kernels, Elementwise::silu, silu), 5);
  const float odd[] = {0, -0.0f, INF, -INF, NOT_A_NUMBER, 88, -88, 200, -200, 3e38f, -3e38f};
  constexpr int COUNT = sizeof odd / sizeof *odd;
  float out[COUNT];
  const auto of = [&](Elementwise function) {
    kernels.elementwise(function, {{odd, 0}, {odd, 0}, {out, 0}, COUNT, 2}, 0, 1);
  };
  of(Elementwise::sigmoid);
  check(out[0] == 0.5f && out[2] == 1 && out[3] == 0 && std::isnan(out[4]) && out[7] == 1 &&
            out[8] == 0 && out[9] == 1 && out[10] == 0,
        "%s: sigmoid of odd numbers", isa_name(isa));
  of(Elementwise::tanh);
  check(same_bits(out[0], 0) && same_bits(out[1], -0.0f) && out[2] == 1 && out[3] == -1 &&
            std::isnan(out[4]) && out[5] == 1 && out[6] == -1 && out[10] == -1,
        "%s: tanh of odd numbers", isa_name(isa));
  of(Elementwise::softcap);
  check(out[0] == 0 && out[2] == 2 && out[3] == -2 && std::isnan(out[4]) && out[9] == 2,
        "%s: softcap of odd numbers", isa_name(isa));
  for (Elementwise each : {Elementwise::silu, Elementwise::gelu, Elementwise::gelu_tanh}) {
    of(each);
    check(out[0] == 0 && out[2] == INF && std::isnan(out[4]) && out[5] == 88 &&
              std::fabs(out[6]) < 1e-36f && out[9] == 3e38f && out[10] == 0,
          "%s: activation %d of odd numbers: %g %g %g", isa_name(isa), int(each), double(out[2]),
          double(out[5]), double(out[6]));
  }
}

struct Formula {
  const char* name;
  Elementwise function;
  double (*exact)(double a, double b);
};

double gelu(double a) { return a * (1 + std::erf(a / std::sqrt(2.0))) / 2; }
double gelu_tanh(double a) {
  return a * (1 + std::tanh(std::sqrt(2 / M_PI) * (a + 0.044715 * a * a * a))) / 2;
}

const Formula FORMULAS[] = {
    {"add", Elementwise::add, [](double a, double b) { return a + b; }},
    {"multiply", Elementwise::multiply, [](double a, double b) { return a * b; }},
    {"scale", Elementwise::scale, [](double a, double) { return a * 3; }},
    {"silu", Elementwise::silu, [](double a, double) { return a / (1 + std::exp(-a)); }},
    {"swiglu", Elementwise::swiglu, [](double a, double b) { return a / (1 + std::exp(-a)) * b; }},
    {"gelu", Elementwise::gelu, [](double a, double) { return gelu(a); }},
    {"geglu", Elementwise::geglu, [](double a, double b) { return gelu(a) * b; }},
    {"gelu_tanh", Elementwise::gelu_tanh, [](double a, double) { return gelu_tanh(a); }},
    {"geglu_tanh", Elementwise::geglu_tanh, [](double a, double b) { return gelu_tanh(a) * b; }},
    {"sigmoid", Elementwise::sigmoid, [](double a, double) { return 1 / (1 + std::exp(-a)); }},
    {"tanh", Elementwise::tanh, [](double a, double) { return std::tanh(a); }},
    {"softcap", Elementwise::softcap, [](double a, double) { return 3 * std::tanh(a / 3); }},
    {"exp", Elementwise::exp, [](double a, double) { return std::exp(a); }},
};

void test_elementwise(int width) {
  constexpr int ROWS = 3;
  const size_t n = size_t(width) * ROWS;
  const auto x = noise(11, n, 9), y = noise(12, n, 2);
  for (const Formula& formula : FORMULAS) {
    const auto found = run_rows(formula.name, [&](const RowKernels& kernels, ConstRows a,
                                                  ConstRows b, Rows out, int w, int begin,
                                                  int end) {
      kernels.elementwise(formula.function, {a, b, out, w, 3}, begin, end);
    }, x, y, width, ROWS);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
      const double exact = formula.exact(double(x[i]), double(y[i]));
      worst = std::fmax(worst, relative(found[i], exact));
    }
    check(worst < 2e-6, "%s, width %d: off by %g", formula.name, width, worst);
  }
}

}  // namespace

int main(int argc, char** argv) {
  is_short = argc > 1 && std::string(argv[1]) == "short";
  for (int width : widths()) test_elementwise(width);
  for (Isa isa : supported_isas()) {
    test_exp(isa);
    test_functions(isa);
  }
  return summary();
}

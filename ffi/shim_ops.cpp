// Arithmetic, comparisons, reductions and order: MLX's ops one to one.
#include "mlx/ops.h"
#include "shim_internal.h"

using namespace shim;

#define UNARY(name, op) \
  int32_t shim_##name(int32_t x) { \
    return guarded([=] { return add(op(at(x))); }); \
  }

UNARY(negative, mx::negative)
UNARY(abs, mx::abs)
UNARY(square, mx::square)
UNARY(sqrt, mx::sqrt)
UNARY(rsqrt, mx::rsqrt)
UNARY(reciprocal, mx::reciprocal)
UNARY(exp, mx::exp)
UNARY(log, mx::log)
UNARY(log1p, mx::log1p)
UNARY(sin, mx::sin)
UNARY(cos, mx::cos)
UNARY(tanh, mx::tanh)
UNARY(sigmoid, mx::sigmoid)
UNARY(erf, mx::erf)
UNARY(floor, mx::floor)
UNARY(ceil, mx::ceil)
UNARY(round, mx::round)
UNARY(logical_not, mx::logical_not)

// A missing side is the number; at(0) tells that both are missing.
#define BINARY(name, op) \
  int32_t shim_##name(int32_t a, int32_t b, double number) { \
    return guarded([=] { \
      if (a == 0) return add(op(number_like(at(b), number), at(b))); \
      if (b == 0) return add(op(at(a), number_like(at(a), number))); \
      return add(op(at(a), at(b))); \
    }); \
  }

BINARY(add, mx::add)
BINARY(subtract, mx::subtract)
BINARY(multiply, mx::multiply)
BINARY(divide, mx::divide)
BINARY(floor_divide, mx::floor_divide)
BINARY(remainder, mx::remainder)
BINARY(power, mx::power)
BINARY(maximum, mx::maximum)
BINARY(minimum, mx::minimum)
BINARY(equal, mx::equal)
BINARY(not_equal, mx::not_equal)
BINARY(less, mx::less)
BINARY(less_equal, mx::less_equal)
BINARY(greater, mx::greater)
BINARY(greater_equal, mx::greater_equal)
BINARY(logical_and, mx::logical_and)
BINARY(logical_or, mx::logical_or)

int32_t shim_where(int32_t condition, int32_t a, double a_number, int32_t b, double b_number) {
  return guarded([=] {
    const mx::array number = mx::array(0.0f);  // Two numbers are a float32, as in MLX's Python.
    const mx::array left = a ? at(a) : number_like(b ? at(b) : number, a_number);
    const mx::array right = b ? at(b) : number_like(a ? at(a) : number, b_number);
    return add(mx::where(at(condition), left, right));
  });
}

#define REDUCE(name, op) \
  int32_t shim_##name(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims) { \
    return guarded([=] { \
      if (axis_count < 0) return add(op(at(x), keepdims)); \
      return add(op(at(x), ints_of(axes, axis_count), keepdims)); \
    }); \
  }

REDUCE(sum, mx::sum)
REDUCE(mean, mx::mean)
REDUCE(prod, mx::prod)
REDUCE(max, mx::max)
REDUCE(min, mx::min)
REDUCE(all, mx::all)
REDUCE(any, mx::any)
REDUCE(logsumexp, mx::logsumexp)

#define ARG_REDUCE(name, op) \
  int32_t shim_##name(int32_t x, const int32_t* axes, int32_t axis_count, bool keepdims) { \
    return guarded([=] { \
      if (axis_count < 0) return add(op(at(x), keepdims)); \
      if (axis_count != 1) throw std::invalid_argument("one axis is needed, or none for all"); \
      return add(op(at(x), axes[0], keepdims)); \
    }); \
  }

ARG_REDUCE(argmax, mx::argmax)
ARG_REDUCE(argmin, mx::argmin)

int32_t shim_softmax(int32_t x, const int32_t* axes, int32_t axis_count, bool precise) {
  return guarded([=] {
    if (axis_count < 0) return add(mx::softmax(at(x), precise));
    return add(mx::softmax(at(x), ints_of(axes, axis_count), precise));
  });
}

int32_t shim_cumsum(int32_t x, int32_t axis, bool reverse, bool inclusive) {
  return guarded([=] { return add(mx::cumsum(at(x), axis, reverse, inclusive)); });
}

#define ALONG(name, op) \
  int32_t shim_##name(int32_t x, int32_t axis) { \
    return guarded([=] { return add(op(at(x), axis)); }); \
  }

ALONG(sort, mx::sort)
ALONG(argsort, mx::argsort)

#define NTH_ALONG(name, op) \
  int32_t shim_##name(int32_t x, int32_t n, int32_t axis) { \
    return guarded([=] { return add(op(at(x), n, axis)); }); \
  }

NTH_ALONG(partition, mx::partition)
NTH_ALONG(argpartition, mx::argpartition)
NTH_ALONG(topk, mx::topk)

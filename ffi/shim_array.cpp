// Making arrays, looking at them and evaluating them.
#include <cmath>
#include <cstring>

#include "mlx/memory.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "shim_internal.h"

namespace shim {

// Numbered as in dtype.ts, which is MLX's own order.
static const mx::Dtype DTYPES[] = {
    mx::bool_, mx::uint8, mx::uint16,  mx::uint32,  mx::uint64,  mx::int8,     mx::int16,
    mx::int32, mx::int64, mx::float16, mx::float32, mx::float64, mx::bfloat16,
};
static constexpr int32_t DTYPE_COUNT = sizeof(DTYPES) / sizeof(DTYPES[0]);

mx::Dtype dtype_of(int32_t code) {
  if (code >= 0 && code < DTYPE_COUNT) return DTYPES[code];
  throw std::invalid_argument("no element type has the number " + std::to_string(code));
}

mx::array number_like(const mx::array& other, double number) {
  const mx::Dtype type = other.dtype();
  if (mx::issubdtype(type, mx::floating)) return mx::array(number, type);
  // As in MLX's Python: beside an integer 0.5 must not become 0, nor 2 true beside a boolean.
  const bool integer = number == std::trunc(number) && std::abs(number) < 0x1p63;
  if (!integer) return mx::array(number, mx::float32);
  return mx::array(int64_t(number), type == mx::bool_ ? mx::int32 : type);
}

// A shape for a new array, checked: MLX on CPU takes a negative length for a huge one and writes to
// the null that malloc gives for what the machine has not got.
static mx::Shape new_shape(const int32_t* shape, int32_t ndim, mx::Dtype type) {
  double bytes = type.size();
  for (int32_t i = 0; i < ndim; i++) {
    bytes *= shape[i];
    if (shape[i] < 0) {
      throw std::invalid_argument("length " + std::to_string(shape[i]) + " of an axis is negative");
    }
  }
  const size_t limit = mx::get_memory_limit();
  if (bytes > double(limit)) {
    throw std::length_error(
        "an array of " + std::to_string(bytes / 0x1p30) + " GiB is over the memory limit, " +
        std::to_string(limit / 0x1p30) + " GiB");
  }
  return shape_of(shape, ndim);
}

// Evaluated, row-major, in the wanted type, and readable by the CPU.
static mx::array readable(mx::array x, mx::Dtype type) {
  if (x.dtype() != type) x = mx::astype(x, type);
  x = mx::contiguous(x);
  x.eval();
  throw_lost_sum();
  return x;
}

}  // namespace shim

using namespace shim;

int32_t shim_describe(int32_t x, int32_t* out, int32_t capacity) {
  return guarded([=] {
    const mx::array& a = at(x);
    const int32_t ndim = a.ndim();
    if (capacity < ndim + 1) throw std::length_error("too many dimensions to describe");
    out[0] = int32_t(a.dtype().val());
    for (int32_t i = 0; i < ndim; i++) out[i + 1] = a.shape()[i];
    return ndim;
  });
}

int32_t shim_eval(const int32_t* arrays, int32_t count) {
  return guarded([=] {
    mx::eval(arrays_of(arrays, count));
    throw_lost_sum();
    return 0;
  });
}

int32_t shim_async_eval(const int32_t* arrays, int32_t count) {
  return guarded([=] {
    mx::async_eval(arrays_of(arrays, count));
    return 0;
  });
}

int32_t shim_item(int32_t x, double* value) {
  return guarded([=] {
    const mx::array& a = at(x);
    if (a.size() != 1) {
      throw std::invalid_argument(
          "an array of one element is needed, this one has " + std::to_string(a.size()));
    }
    switch (a.dtype().val()) {
      case mx::Dtype::Val::float64:
        *value = readable(a, mx::float64).data<double>()[0];
        break;
      case mx::Dtype::Val::uint64:
        *value = readable(a, mx::uint64).data<uint64_t>()[0];
        break;
      case mx::Dtype::Val::uint32:
      case mx::Dtype::Val::int32:
      case mx::Dtype::Val::int64:
        *value = readable(a, mx::int64).data<int64_t>()[0];
        break;
      default:  // Every value of the smaller types is a float32 too.
        *value = readable(a, mx::float32).data<float>()[0];
    }
    return 0;
  });
}

int32_t shim_read(int32_t x, int32_t type, uint8_t* out, double capacity) {
  return guarded([=] {
    const mx::array a = readable(at(x), dtype_of(type));
    if (double(a.nbytes()) > capacity) {
      throw std::length_error(
          "room for " + std::to_string(size_t(capacity)) + " bytes, " + std::to_string(a.nbytes()) +
          " needed");
    }
    if (a.nbytes() > 0) std::memcpy(out, a.data<uint8_t>(), a.nbytes());
    return 0;
  });
}

int32_t shim_zeros(const int32_t* shape, int32_t ndim, int32_t type) {
  return guarded([=] {
    const mx::Dtype dtype = dtype_of(type);
    return add(mx::zeros(new_shape(shape, ndim, dtype), dtype));
  });
}

int32_t shim_ones(const int32_t* shape, int32_t ndim, int32_t type) {
  return guarded([=] {
    const mx::Dtype dtype = dtype_of(type);
    return add(mx::ones(new_shape(shape, ndim, dtype), dtype));
  });
}

int32_t shim_full(double value, const int32_t* shape, int32_t ndim, int32_t type) {
  return guarded([=] {
    const mx::Dtype dtype = dtype_of(type);
    return add(mx::full(new_shape(shape, ndim, dtype), value, dtype));
  });
}

int32_t shim_arange(double start, double stop, double step, int32_t type) {
  return guarded([=] { return add(mx::arange(start, stop, step, dtype_of(type))); });
}

int32_t shim_scalar(double value, int32_t type) {
  return guarded([=] { return add(mx::array(value, dtype_of(type))); });
}

int32_t shim_from_bytes(
    const uint8_t* data, double byte_count, const int32_t* shape, int32_t ndim, int32_t type) {
  return guarded([=] {
    const mx::Dtype dtype = dtype_of(type);
    mx::Shape lengths = new_shape(shape, ndim, dtype);
    double needed = dtype.size();
    for (const int32_t length : lengths) needed *= length;
    if (needed != byte_count) {
      throw std::invalid_argument(
          "the shape needs " + std::to_string(size_t(needed)) + " bytes, " +
          std::to_string(size_t(byte_count)) + " given");
    }
    // Through MLX's allocator, so that the bytes are counted as its own.
    mx::allocator::Data copy = mx::allocator::malloc(size_t(needed));
    if (needed > 0) std::memcpy(copy.buffer().raw_ptr(), data, size_t(needed));
    return add(mx::array(std::move(copy), std::move(lengths), dtype));
  });
}

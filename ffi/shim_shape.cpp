// Parts of arrays, shapes and element types.
#include "mlx/ops.h"
#include "shim_internal.h"

using namespace shim;

// Strides are checked here: MLX divides by them.
static mx::Shape strides_of(const int32_t* strides, int32_t ndim) {
  for (int32_t i = 0; i < ndim; i++) {
    if (strides[i] == 0) throw std::invalid_argument("a stride is 0");
  }
  return shape_of(strides, ndim);
}

int32_t shim_slice(
    int32_t x, const int32_t* start, const int32_t* stop, const int32_t* strides, int32_t ndim) {
  return guarded([=] {
    return add(mx::slice(
        at(x), shape_of(start, ndim), shape_of(stop, ndim), strides_of(strides, ndim)));
  });
}

int32_t shim_slice_update(
    int32_t x,
    int32_t update,
    const int32_t* start,
    const int32_t* stop,
    const int32_t* strides,
    int32_t ndim) {
  return guarded([=] {
    return add(mx::slice_update(
        at(x), at(update), shape_of(start, ndim), shape_of(stop, ndim), strides_of(strides, ndim)));
  });
}

int32_t shim_take(int32_t x, int32_t indices, int32_t axis) {
  return guarded([=] { return add(mx::take(at(x), at(indices), axis)); });
}

int32_t shim_take_flat(int32_t x, int32_t indices) {
  return guarded([=] { return add(mx::take(at(x), at(indices))); });
}

int32_t shim_take_along_axis(int32_t x, int32_t indices, int32_t axis) {
  return guarded([=] { return add(mx::take_along_axis(at(x), at(indices), axis)); });
}

int32_t shim_put_along_axis(int32_t x, int32_t indices, int32_t values, int32_t axis) {
  return guarded([=] { return add(mx::put_along_axis(at(x), at(indices), at(values), axis)); });
}

int32_t shim_reshape(int32_t x, const int32_t* shape, int32_t ndim) {
  return guarded([=] { return add(mx::reshape(at(x), shape_of(shape, ndim))); });
}

int32_t shim_broadcast_to(int32_t x, const int32_t* shape, int32_t ndim) {
  return guarded([=] { return add(mx::broadcast_to(at(x), shape_of(shape, ndim))); });
}

int32_t shim_transpose(int32_t x, const int32_t* axes, int32_t axis_count) {
  return guarded([=] {
    if (axis_count < 0) return add(mx::transpose(at(x)));
    return add(mx::transpose(at(x), ints_of(axes, axis_count)));
  });
}

int32_t shim_expand_dims(int32_t x, const int32_t* axes, int32_t axis_count) {
  return guarded([=] { return add(mx::expand_dims(at(x), ints_of(axes, axis_count))); });
}

int32_t shim_squeeze(int32_t x, const int32_t* axes, int32_t axis_count) {
  return guarded([=] {
    if (axis_count < 0) return add(mx::squeeze(at(x)));
    return add(mx::squeeze(at(x), ints_of(axes, axis_count)));
  });
}

int32_t shim_swapaxes(int32_t x, int32_t axis1, int32_t axis2) {
  return guarded([=] { return add(mx::swapaxes(at(x), axis1, axis2)); });
}

int32_t shim_flatten(int32_t x, int32_t start_axis, int32_t end_axis) {
  return guarded([=] { return add(mx::flatten(at(x), start_axis, end_axis)); });
}

int32_t shim_concatenate(const int32_t* arrays, int32_t count, int32_t axis) {
  return guarded([=] { return add(mx::concatenate(arrays_of(arrays, count), axis)); });
}

int32_t shim_stack(const int32_t* arrays, int32_t count, int32_t axis) {
  return guarded([=] { return add(mx::stack(arrays_of(arrays, count), axis)); });
}

int32_t shim_split(int32_t x, int32_t parts, int32_t axis, int32_t* out, int32_t capacity) {
  return guarded([=] {
    if (parts < 1) throw std::invalid_argument("at least 1 part is needed");
    return add_all(mx::split(at(x), parts, axis), out, capacity);
  });
}

int32_t shim_split_at(
    int32_t x,
    const int32_t* at_indices,
    int32_t at_count,
    int32_t axis,
    int32_t* out,
    int32_t capacity) {
  return guarded([=] {
    return add_all(mx::split(at(x), shape_of(at_indices, at_count), axis), out, capacity);
  });
}

int32_t shim_tile(int32_t x, const int32_t* repeats, int32_t repeat_count) {
  return guarded([=] { return add(mx::tile(at(x), ints_of(repeats, repeat_count))); });
}

int32_t shim_repeat(int32_t x, int32_t repeats, int32_t axis) {
  return guarded([=] { return add(mx::repeat(at(x), repeats, axis)); });
}

int32_t shim_pad(
    int32_t x, const int32_t* before, const int32_t* after, int32_t ndim, double value) {
  return guarded([=] {
    const mx::array& a = at(x);
    if (size_t(ndim) != a.ndim()) {
      throw std::invalid_argument(
          "paddings for " + std::to_string(ndim) + " axes, the array has " +
          std::to_string(a.ndim()));
    }
    std::vector<int> axes(ndim);
    for (int32_t i = 0; i < ndim; i++) axes[i] = i;
    const mx::array fill = mx::astype(number_like(a, value), a.dtype());
    return add(mx::pad(a, axes, shape_of(before, ndim), shape_of(after, ndim), fill));
  });
}

int32_t shim_contiguous(int32_t x) {
  return guarded([=] { return add(mx::contiguous(at(x))); });
}

int32_t shim_astype(int32_t x, int32_t type) {
  return guarded([=] { return add(mx::astype(at(x), dtype_of(type))); });
}

int32_t shim_view(int32_t x, int32_t type) {
  return guarded([=] { return add(mx::view(at(x), dtype_of(type))); });
}

// What the shim_*.cpp files share: the handle table, the guard at the border, and conversions.
#pragma once
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/group_spec.h"
#include "mlx/array.h"
#include "mlx/utils.h"
#include "shim.h"

namespace shim {

namespace mx = mlx::core;

/** What C functions return when a group of ranks is broken, and for all other failures. */
constexpr int32_t GROUP_BROKEN = -2, FAILED = -1;

/** Keeps the message of a failure for shim_last_message; returns the status. */
int32_t fail(const char* message, int32_t status = FAILED) noexcept;

/** Runs the body of a C function: nothing that it throws crosses the border. */
template <class Body>
int32_t guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const exo::kernels::GroupError& e) {
    return fail(e.what(), GROUP_BROKEN);
  } catch (const std::exception& e) {
    return fail(e.what());
  } catch (...) {
    return fail("an exception that is no std::exception");
  }
}

/** The array behind a handle; throws if it was freed or never existed. Valid until the next add. */
const mx::array& at(int32_t handle);
/** Stores an array in the innermost scope, or with the caller if none is open; gives its handle. */
int32_t add(mx::array array);
/** Stores arrays as add does and writes their handles, all or none; returns their count. */
int32_t add_all(std::vector<mx::array> arrays, int32_t* out, int32_t capacity);
/** Keeps text for shim_take_text; returns its length in bytes. */
int32_t leave_text(std::string text);
/** Stores arrays and keeps their handles for shim_take_handles; returns their count. */
int32_t leave_arrays(std::vector<mx::array> arrays);

/**
 * Throws what a sum over ranks failed with since this was called last. MLX computes on threads where
 * nothing may be thrown, so whoever has evaluated something asks here.
 * @throws GroupError
 */
void throw_lost_sum();

/** The element type with this number; throws if there is none. */
mx::Dtype dtype_of(int32_t code);
/** A number as a scalar that suits the other operand, so that the result keeps that one's type. */
mx::array number_like(const mx::array& other, double number);

inline mx::Shape shape_of(const int32_t* values, int32_t count) {
  return mx::Shape(values, values + count);
}
inline std::vector<int> ints_of(const int32_t* values, int32_t count) {
  return std::vector<int>(values, values + count);
}
std::vector<mx::array> arrays_of(const int32_t* handles, int32_t count);
inline std::optional<mx::array> option_of(int32_t handle) {
  return handle == 0 ? std::nullopt : std::optional<mx::array>(at(handle));
}

/** Appends a string to a blob: its byte count as u32 LE, then its bytes. */
void append_string(std::string& blob, const std::string& text);
/** The strings of such a blob; throws if it is cut short. */
std::vector<std::string> strings_of(const uint8_t* blob, int32_t byte_count);

}  // namespace shim

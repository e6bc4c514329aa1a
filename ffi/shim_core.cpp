// Messages, the handle table and scopes, one set for each thread: MLX binds its streams to threads,
// so an array is of no use to another thread, and nothing here needs a lock.
#include <algorithm>
#include <cstring>
#include <optional>

#include "shim_internal.h"

namespace shim {
namespace {

// A handle is an index into the table (low bits) and the generation of its slot (high bits), so
// that a handle to a freed array is recognised. It is never 0 nor negative.
constexpr int INDEX_BITS = 18;
constexpr int32_t INDEX_MASK = (1 << INDEX_BITS) - 1;
constexpr int32_t GENERATION_MAX = (1 << (31 - INDEX_BITS)) - 1;
constexpr int32_t KEPT = 0;

struct Slot {
  std::optional<mx::array> array;
  int32_t generation = 1;
  int32_t depth = KEPT;  // Of the scope that owns the array; KEPT: the caller does.
};

struct State {
  std::vector<Slot> slots;
  std::vector<int32_t> vacant;
  std::vector<int32_t> scoped;      // Handles made in open scopes, outermost first.
  std::vector<size_t> scope_start;  // Where each open scope begins in `scoped`.
  int32_t live = 0;
  std::string message;           // Of the last failure.
  std::string text;              // Left for shim_take_text.
  std::vector<int32_t> handles;  // Left for shim_take_handles.
};

// Never destroyed: at exit, arrays must not be freed after MLX's own statics.
State& state() {
  static thread_local State* own = nullptr;
  return own ? *own : *(own = new State);
}

Slot* find(int32_t handle) noexcept {
  const size_t index = handle & INDEX_MASK;
  std::vector<Slot>& slots = state().slots;
  if (handle <= 0 || index >= slots.size()) return nullptr;
  Slot& slot = slots[index];
  return slot.array && slot.generation == handle >> INDEX_BITS ? &slot : nullptr;
}

Slot& slot_at(int32_t handle) {
  if (Slot* slot = find(handle)) return *slot;
  if (handle == 0) throw std::invalid_argument("no array was given where one is needed");
  throw std::invalid_argument(
      "array handle " + std::to_string(handle) + " was freed or never existed");
}

void release(int32_t handle, Slot& slot) {
  State& own = state();
  own.vacant.push_back(handle & INDEX_MASK);
  slot.generation = slot.generation == GENERATION_MAX ? 1 : slot.generation + 1;
  own.live--;
  slot.array.reset();
}

int32_t vacant_index(State& own) {
  if (!own.vacant.empty()) {
    const int32_t index = own.vacant.back();
    own.vacant.pop_back();
    return index;
  }
  if (own.slots.size() > INDEX_MASK) {
    throw std::length_error(
        "no room for another array: " + std::to_string(own.live) +
        " are live, which is the limit; free some or work in a scope");
  }
  own.slots.emplace_back();
  return own.slots.size() - 1;
}

int32_t copy_text(const std::string& text, uint8_t* out, int32_t capacity) noexcept {
  const size_t length = std::min<size_t>(text.size(), std::max(capacity, 0));
  if (length > 0) std::memcpy(out, text.data(), length);
  return text.size();
}

}  // namespace

int32_t fail(const char* message, int32_t status) noexcept {
  try {
    std::string& kept = state().message;
    kept = message;
    while (kept.ends_with('.') || kept.ends_with('\n')) kept.pop_back();
  } catch (...) {
    state().message.clear();  // Out of memory: a failure without words is still a failure.
  }
  return status;
}

const mx::array& at(int32_t handle) {
  return *slot_at(handle).array;
}

int32_t add(mx::array array) {
  State& own = state();
  const int32_t index = vacant_index(own);
  Slot& slot = own.slots[index];
  const int32_t handle = slot.generation << INDEX_BITS | index;
  slot.depth = own.scope_start.size();
  if (slot.depth != KEPT) own.scoped.push_back(handle);
  slot.array.emplace(std::move(array));
  own.live++;
  return handle;
}

int32_t add_all(std::vector<mx::array> arrays, int32_t* out, int32_t capacity) {
  const int32_t count = arrays.size();
  if (count > capacity) {
    throw std::length_error(
        "room for " + std::to_string(capacity) + " arrays, " + std::to_string(count) + " needed");
  }
  for (int32_t i = 0; i < count; i++) out[i] = add(std::move(arrays[i]));
  return count;
}

int32_t leave_text(std::string text) {
  return (state().text = std::move(text)).size();
}

int32_t leave_arrays(std::vector<mx::array> arrays) {
  std::vector<int32_t> handles(arrays.size());
  const int32_t count = add_all(std::move(arrays), handles.data(), handles.size());
  state().handles = std::move(handles);
  return count;
}

std::vector<mx::array> arrays_of(const int32_t* handles, int32_t count) {
  std::vector<mx::array> arrays;
  arrays.reserve(count);
  for (int32_t i = 0; i < count; i++) arrays.push_back(at(handles[i]));
  return arrays;
}

void append_string(std::string& blob, const std::string& text) {
  const uint32_t size = text.size();
  for (int shift = 0; shift < 32; shift += 8) blob.push_back(size >> shift & 0xff);
  blob += text;
}

std::vector<std::string> strings_of(const uint8_t* blob, int32_t byte_count) {
  std::vector<std::string> strings;
  for (int64_t i = 0; i < byte_count;) {
    if (byte_count - i < 4) throw std::invalid_argument("a list of strings is cut short");
    uint32_t size = 0;
    for (int byte = 0; byte < 4; byte++) size |= uint32_t(blob[i + byte]) << 8 * byte;
    i += 4;
    if (byte_count - i < size) throw std::invalid_argument("a list of strings is cut short");
    strings.emplace_back(reinterpret_cast<const char*>(blob + i), size);
    i += size;
  }
  return strings;
}

}  // namespace shim

using namespace shim;

int32_t shim_last_message(uint8_t* out, int32_t capacity) {
  return copy_text(state().message, out, capacity);
}

int32_t shim_take_text(uint8_t* out, int32_t capacity) {
  return copy_text(state().text, out, capacity);
}

int32_t shim_take_handles(int32_t* out, int32_t capacity) {
  const std::vector<int32_t>& handles = state().handles;
  std::copy_n(handles.begin(), std::min<size_t>(handles.size(), std::max(capacity, 0)), out);
  return handles.size();
}

int32_t shim_scope_enter() {
  return guarded([] {
    State& own = state();
    own.scope_start.push_back(own.scoped.size());
    return int32_t(own.scope_start.size());
  });
}

int32_t shim_scope_leave(int32_t depth) {
  return guarded([=] {
    State& own = state();
    const int32_t innermost = own.scope_start.size();
    if (depth != innermost) {
      throw std::invalid_argument(
          "scope " + std::to_string(depth) + " is not the innermost one, which is " +
          std::to_string(innermost) + "; scopes end in the reverse order of their beginning");
    }
    int32_t freed = 0;
    const size_t start = own.scope_start.back();
    // Newest first, so that the next scope fills the slots in the same order.
    for (size_t i = own.scoped.size(); i-- > start;) {
      Slot* slot = find(own.scoped[i]);
      if (!slot || slot->depth != depth) continue;
      release(own.scoped[i], *slot);
      freed++;
    }
    own.scoped.resize(start);
    own.scope_start.pop_back();
    return freed;
  });
}

int32_t shim_keep(int32_t x) {
  return guarded([=] { return slot_at(x).depth = KEPT; });
}

int32_t shim_free(int32_t x) {
  return guarded([=] {
    release(x, slot_at(x));
    return 0;
  });
}

int32_t shim_live_arrays() {
  return state().live;
}

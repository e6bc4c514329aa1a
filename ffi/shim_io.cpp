// Files of tensors, memory counters and devices.
#include <unordered_map>

#include "mlx/device.h"
#include "mlx/io.h"
#include "mlx/memory.h"
#include "mlx/backend/cuda/cuda.h"
#include "mlx/backend/metal/metal.h"
#include "mlx/version.h"
#include "shim_native.h"

using namespace shim;

namespace {

using Arrays = std::unordered_map<std::string, mx::array>;
using Pairs = std::unordered_map<std::string, std::string>;

// The arrays are left for shim_take_handles, their names and then the pairs for shim_take_text.
int32_t leave_loaded(const Arrays& arrays, const Pairs& pairs) {
  std::string blob;
  std::vector<mx::array> values;
  for (const auto& [name, array] : arrays) {
    append_string(blob, name);
    values.push_back(array);
  }
  for (const auto& [key, value] : pairs) {
    append_string(blob, key);
    append_string(blob, value);
  }
  leave_text(std::move(blob));
  return leave_arrays(std::move(values));
}

int32_t set_limit(size_t (*set)(size_t), double bytes, double* previous) {
  return guarded([=] {
    if (!(bytes >= 0)) throw std::invalid_argument("a limit in bytes must not be negative");
    *previous = set(size_t(bytes));
    return 0;
  });
}

}  // namespace

int32_t shim_load_safetensors(const char* path) {
  return guarded([=] {
    const auto [arrays, metadata] = mx::load_safetensors(std::string(path));
    return leave_loaded(arrays, metadata);
  });
}

int32_t shim_load_gguf(const char* path) {
  return guarded([=] { return leave_loaded(mx::load_gguf(path).first, {}); });
}

int32_t shim_save_safetensors(
    const char* path,
    const int32_t* arrays,
    int32_t count,
    const uint8_t* names,
    int32_t names_bytes,
    const uint8_t* metadata,
    int32_t metadata_bytes) {
  return guarded([=] {
    const std::vector<std::string> keys = strings_of(names, names_bytes);
    const std::vector<std::string> words = strings_of(metadata, metadata_bytes);
    if (keys.size() != size_t(count) || words.size() % 2 != 0) {
      throw std::invalid_argument("names do not match arrays, or metadata keys their values");
    }
    Arrays named;
    for (int32_t i = 0; i < count; i++) named.insert({keys[i], at(arrays[i])});
    Pairs pairs;
    for (size_t i = 0; i < words.size(); i += 2) pairs.insert({words[i], words[i + 1]});
    mx::save_safetensors(std::string(path), named, pairs);
    return 0;
  });
}

int32_t shim_memory(double* out) {
  return guarded([=] {
    out[0] = mx::get_active_memory() + counted_bytes();
    out[1] = mx::get_peak_memory() + counted_peak_bytes();
    out[2] = mx::get_cache_memory();
    out[3] = mx::get_memory_limit();
    return 0;
  });
}

int32_t shim_set_memory_limit(double bytes, double* previous) {
  return set_limit(mx::set_memory_limit, bytes, previous);
}

int32_t shim_set_cache_limit(double bytes, double* previous) {
  return set_limit(mx::set_cache_limit, bytes, previous);
}

int32_t shim_set_wired_limit(double bytes, double* previous) {
  return set_limit(mx::set_wired_limit, bytes, previous);
}

int32_t shim_clear_cache() {
  return guarded([] {
    mx::clear_cache();
    return 0;
  });
}

int32_t shim_reset_peak_memory() {
  return guarded([] {
    mx::reset_peak_memory();
    reset_counted_peak();
    return 0;
  });
}

int32_t shim_set_default_device(bool gpu, int32_t index) {
  return guarded([=] {
    const mx::Device device(gpu ? mx::Device::gpu : mx::Device::cpu, index);
    if (!mx::is_available(device)) {
      throw std::invalid_argument(
          std::string("no such device: ") + (gpu ? "gpu " : "cpu ") + std::to_string(index));
    }
    mx::set_default_device(device);
    return 0;
  });
}

int32_t shim_device_info() {
  return guarded([] {
    const mx::Device& device = mx::default_device();
    std::string blob;
    const auto pair = [&](const std::string& key, const char* kind, const std::string& value) {
      append_string(blob, key);
      append_string(blob, kind);
      append_string(blob, value);
    };
    const bool gpu = device.type == mx::Device::gpu;
    pair("type", "text", gpu ? "gpu" : "cpu");
    pair("index", "number", std::to_string(device.index));
    pair("gpu_backend", "text",
         mx::metal::is_available() ? "metal" : mx::cu::is_available() ? "cuda" : "none");
    for (const auto& [key, value] : mx::device_info(device)) {
      if (const auto* text = std::get_if<std::string>(&value)) pair(key, "text", *text);
      else pair(key, "number", std::to_string(std::get<size_t>(value)));
    }
    return leave_text(std::move(blob));
  });
}

int32_t shim_mlx_version() {
  return guarded([] { return leave_text(mx::version()); });
}

// What the CPU engine's parts of the shim share: registries of native objects, and counted memory.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "kernels/plan.h"
#include "shim_internal.h"

namespace shim {

namespace ek = exo::kernels;

/** Objects by number, from any thread. Numbers begin at 1 and are not used twice. */
template <class T>
class Registry {
 public:
  explicit Registry(const char* name) : name_(name) {}

  int32_t add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    objects_.emplace(++last_, std::move(object));
    return last_;
  }

  std::shared_ptr<T> at(int32_t id) const {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(id);
    if (found != objects_.end()) return found->second;
    throw std::invalid_argument(
        std::string(name_) + " " + std::to_string(id) + " was freed or never existed");
  }

  void remove(int32_t id) {
    std::shared_ptr<T> last = at(id);  // Destroyed after the lock is given back.
    const std::lock_guard lock(mutex_);
    objects_.erase(id);
  }

 private:
  const char* name_;
  mutable std::mutex mutex_;
  std::map<int32_t, std::shared_ptr<T>> objects_;
  int32_t last_ = 0;
};

/**
 * Memory outside of MLX's allocator, aligned for the kernels, and counted with MLX's. Weights come
 * and go together, and share huge pages; blocks come and go one by one.
 */
void* allocate_weights(size_t bytes);
void* allocate_block(size_t bytes);
void release_counted(void* data);
size_t counted_bytes();
size_t counted_peak_bytes();
void reset_counted_peak();

/** A packed weight matrix and its memory. */
struct PackedMatrix {
  ek::Matrix matrix;
  uint8_t* data = nullptr;

  explicit PackedMatrix(size_t bytes) : data(static_cast<uint8_t*>(allocate_weights(bytes))) {}
  ~PackedMatrix() { release_counted(data); }
  PackedMatrix(const PackedMatrix&) = delete;
  PackedMatrix& operator=(const PackedMatrix&) = delete;
};

/** Made when first used, never destroyed: at exit, other threads may still hold what is in them. */
Registry<PackedMatrix>& matrices();
Registry<ek::RopeTable>& rope_tables();
Registry<ek::KvPool>& kv_pools();

/** Rows that someone owns: what a plan put out, until its next step. */
struct OwnedRows {
  std::shared_ptr<const void> owner;
  const float* data = nullptr;
  int rows = 0, width = 0;
};

/** The selected rows of a plan's last step. @throws std::invalid_argument if there is no plan. */
OwnedRows output_of(int32_t plan);

}  // namespace shim

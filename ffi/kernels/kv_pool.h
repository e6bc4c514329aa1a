// The memory of paged KV caches: blocks that hold KV_BLOCK positions of every layer of a model.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "kv_cache.h"

namespace exo::kernels {

/** Where a pool gets its memory, aligned to KV_ALIGN, and gives it back. */
struct KvMemory {
  std::function<void*(size_t bytes)> allocate;
  std::function<void(void* data)> release;
};

/** Blocks by number. Who asks for one owns it until it gives it back; nothing here is locked. */
class KvPool {
 public:
  /** @throws std::invalid_argument when a layer's shape is none that the kernels serve. */
  KvPool(std::vector<KvShape> layers, KvMemory memory);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  /** The number of a new block, whose contents are undefined. @throws std::bad_alloc. */
  int32_t take();
  /**
   * The number of a new block that holds what `block` does. @throws std::invalid_argument when that
   * is not in use; std::bad_alloc.
   */
  int32_t copy(int32_t block);
  /** Frees a block's memory. @throws std::invalid_argument when it is not in use. */
  void give_back(int32_t block);

  /** A block's part for one layer. The block must be in use. */
  uint8_t* at(int32_t block, int layer) const { return blocks_[block] + offsets_[layer]; }
  bool has(int32_t block) const {
    return block >= 0 && size_t(block) < blocks_.size() && blocks_[block] != nullptr;
  }

  const std::vector<KvShape>& layers() const { return layers_; }
  /** Bytes of one block over all layers. */
  size_t block_bytes() const { return block_bytes_; }
  /** Bytes of all blocks in use. */
  size_t bytes() const { return block_bytes_ * (blocks_.size() - vacant_.size()); }

 private:
  void require(int32_t block) const;

  std::vector<KvShape> layers_;
  KvMemory memory_;
  std::vector<size_t> offsets_;  // Of each layer in a block.
  size_t block_bytes_ = 0;
  std::vector<uint8_t*> blocks_;
  std::vector<int32_t> vacant_;
};

}  // namespace exo::kernels

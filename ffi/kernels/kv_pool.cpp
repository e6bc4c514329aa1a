#include "kv_pool.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace exo::kernels {

static void check(const KvShape& shape) {
  const bool fits = shape.kv_heads > 0 && shape.key_dim > 0 && shape.key_dim <= HEAD_DIM_MAX &&
                    shape.value_dim > 0 && shape.value_dim <= HEAD_DIM_MAX &&
                    shape.value_dim % 16 == 0 && shape.dtype != Dtype::bf16;
  if (fits) return;
  throw std::invalid_argument(
      "a KV cache of " + std::to_string(shape.kv_heads) + " heads, keys of " +
      std::to_string(shape.key_dim) + " and values of " + std::to_string(shape.value_dim) +
      ": up to " + std::to_string(HEAD_DIM_MAX) + " needed, values a multiple of 16, f32 or f16");
}

KvPool::KvPool(std::vector<KvShape> layers, KvMemory memory)
    : layers_(std::move(layers)), memory_(std::move(memory)) {
  if (layers_.empty()) throw std::invalid_argument("a KV cache without layers");
  for (const KvShape& shape : layers_) {
    check(shape);
    offsets_.push_back(block_bytes_);
    block_bytes_ += (kv_block_bytes(shape) + KV_ALIGN - 1) / KV_ALIGN * KV_ALIGN;
  }
}

KvPool::~KvPool() {
  for (uint8_t* block : blocks_) {
    if (block) memory_.release(block);
  }
}

int32_t KvPool::take() {
  uint8_t* data = static_cast<uint8_t*>(memory_.allocate(block_bytes_));
  if (vacant_.empty()) {
    blocks_.push_back(data);
    return int32_t(blocks_.size()) - 1;
  }
  const int32_t block = vacant_.back();
  vacant_.pop_back();
  blocks_[block] = data;
  return block;
}

int32_t KvPool::copy(int32_t block) {
  require(block);
  const int32_t made = take();
  std::memcpy(blocks_[made], blocks_[block], block_bytes_);
  return made;
}

void KvPool::require(int32_t block) const {
  if (has(block)) return;
  throw std::invalid_argument("KV block " + std::to_string(block) + " is not in use");
}

void KvPool::give_back(int32_t block) {
  require(block);
  memory_.release(blocks_[block]);
  blocks_[block] = nullptr;
  vacant_.push_back(block);
}

}  // namespace exo::kernels

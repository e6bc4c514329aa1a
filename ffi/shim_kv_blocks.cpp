// Bytes of KV blocks out of a pool and into one, layer by layer, as the kernels keep them.
#include <cstring>

#include "shim_native.h"

namespace shim {

/** A pool with a layer of that number. */
static std::shared_ptr<ek::KvPool> pool_with_layer(int32_t pool, int32_t layer) {
  std::shared_ptr<ek::KvPool> found = kv_pools().at(pool);
  if (layer >= 0 && size_t(layer) < found->layers().size()) return found;
  throw std::invalid_argument("layer " + std::to_string(layer) + " of a KV cache that has " +
                              std::to_string(found->layers().size()));
}

/** Bytes of one block of the layer; `bytes` must be those of `count` such blocks. */
static size_t require_bytes(const ek::KvPool& pool, int32_t layer, int32_t count, double bytes) {
  const size_t one = ek::kv_block_bytes(pool.layers()[layer]);
  if (count >= 0 && bytes == double(one) * count) return one;
  throw std::invalid_argument(std::to_string(size_t(bytes)) + " bytes for " +
                              std::to_string(count) + " KV blocks of " + std::to_string(one));
}

/** @throws std::invalid_argument unless all of the blocks are in use. */
static void require_blocks(const ek::KvPool& pool, const int32_t* blocks, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (pool.has(blocks[i])) continue;
    throw std::invalid_argument("KV block " + std::to_string(blocks[i]) + " is not in use");
  }
}

}  // namespace shim

using namespace shim;

int32_t shim_kv_layer_bytes(int32_t pool, int32_t layer, double* bytes) {
  return guarded([=] {
    *bytes = double(ek::kv_block_bytes(pool_with_layer(pool, layer)->layers()[layer]));
    return 0;
  });
}

int32_t shim_kv_read(
    int32_t pool,
    int32_t layer,
    const int32_t* blocks,
    int32_t count,
    uint8_t* out,
    double bytes) {
  return guarded([=] {
    const auto kv = pool_with_layer(pool, layer);
    const size_t one = require_bytes(*kv, layer, count, bytes);
    require_blocks(*kv, blocks, count);
    for (int32_t i = 0; i < count; i++) std::memcpy(out + i * one, kv->at(blocks[i], layer), one);
    return 0;
  });
}

int32_t shim_kv_write(
    int32_t pool,
    int32_t layer,
    const int32_t* blocks,
    int32_t count,
    const uint8_t* data,
    double bytes) {
  return guarded([=] {
    const auto kv = pool_with_layer(pool, layer);
    const size_t one = require_bytes(*kv, layer, count, bytes);
    require_blocks(*kv, blocks, count);
    for (int32_t i = 0; i < count; i++) std::memcpy(kv->at(blocks[i], layer), data + i * one, one);
    return 0;
  });
}

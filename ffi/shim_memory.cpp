// Memory outside of MLX's allocator: aligned, in huge pages where there are any, and counted.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "shim_native.h"

namespace shim {

namespace {

std::atomic<size_t> used{0}, peak{0};

/** What a huge page holds on x86-64 and, by default, on arm64. Source: Linux, transhuge.rst. */
constexpr size_t HUGE_PAGE = size_t(2) << 20;

/** Pieces of memory share slabs of this size; larger ones than a quarter have one of their own. */
constexpr size_t SLAB_BYTES = size_t(64) << 20;

/** A range of addresses from the system, given back when all of its pieces are. */
struct Slab {
  uint8_t* start;
  size_t size;
  size_t used = 0;
  int pieces = 0;
};

/** Blocks from this size on are mapped, so that the system has them back when they are freed. */
constexpr size_t MAPPED_BYTES_MIN = size_t(64) << 10;

/**
 * Bytes of freed blocks that are kept for others of their size: the kernel clears what it hands
 * out, which would cost a prompt some 5 % of its time. Little enough for nobody to miss it.
 */
constexpr size_t REUSED_BYTES_MAX = size_t(32) << 20;

/** Before each piece, in a cache line of its own; a piece without a slab comes from malloc. */
struct Header {
  Slab* slab;
  size_t bytes;
};
constexpr size_t HEADER_BYTES = ek::ALIGN;
static_assert(sizeof(Header) <= HEADER_BYTES);

Slab alone{nullptr, 0};        // Stands for the mapping that a block has to itself.
std::mutex slabs;              // Held while a slab is changed, and for what is reused.
auto& reused = *new std::vector<std::pair<void*, size_t>>;  // Never destroyed.
size_t reused_bytes = 0;
Slab* current_slab = nullptr;  // Where small pieces come from.

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

Slab* map_slab(size_t bytes) {
  const size_t size = rounded(bytes, HUGE_PAGE);
  // More than needed, since only a part of it begins at a huge page; the rest goes back.
  void* range = mmap(nullptr, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) throw std::bad_alloc();
  uint8_t* const begin = static_cast<uint8_t*>(range);
  uint8_t* const start =
      reinterpret_cast<uint8_t*>(rounded(reinterpret_cast<size_t>(begin), HUGE_PAGE));
  if (start > begin) munmap(begin, start - begin);
  uint8_t* const end = begin + size + HUGE_PAGE;
  if (end > start + size) munmap(start + size, end - (start + size));
#ifdef MADV_HUGEPAGE
  // Weights are read from end to end in each step: with small pages, a seventh of the time is spent
  // on finding them.
  madvise(start, size, MADV_HUGEPAGE);
#endif
  return new Slab{start, size};
}

Slab* slab_for(size_t bytes) {
  if (bytes > SLAB_BYTES / 4) return map_slab(bytes);
  if (!current_slab || current_slab->size - current_slab->used < bytes) {
    if (current_slab && current_slab->pieces == 0) {
      munmap(current_slab->start, current_slab->size);
      delete current_slab;
    }
    current_slab = nullptr;
    current_slab = map_slab(SLAB_BYTES);
  }
  return current_slab;
}

/** A mapping of this size: one that was freed, or a new one; null when there is none. */
void* map_block(size_t bytes) {
  {
    const std::lock_guard lock(slabs);
    for (std::pair<void*, size_t>& block : reused) {
      if (block.second != bytes) continue;
      void* const at = block.first;
      block = reused.back();
      reused.pop_back();
      reused_bytes -= bytes;
      return at;
    }
  }
  void* const range =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return range == MAP_FAILED ? nullptr : range;
}

void unmap_block(void* at, size_t bytes) {
  const std::lock_guard lock(slabs);
  if (reused_bytes + bytes > REUSED_BYTES_MAX) {
    munmap(at, bytes);
    return;
  }
  reused.push_back({at, bytes});
  reused_bytes += bytes;
}

void count(size_t bytes) {
  const size_t now = used.fetch_add(bytes) + bytes;
  size_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now));
}

}  // namespace

void* allocate_block(size_t bytes) {
  const size_t whole = rounded(bytes, ek::ALIGN) + HEADER_BYTES;
  const bool is_mapped = whole >= MAPPED_BYTES_MIN;
  // What malloc keeps of freed blocks cannot be told from what is in use: a process that is short
  // of memory would stay so.
  void* const range = is_mapped ? map_block(whole) : std::aligned_alloc(ek::ALIGN, whole);
  if (!range) throw std::bad_alloc();
  uint8_t* const at = static_cast<uint8_t*>(range);
  *reinterpret_cast<Header*>(at) = {is_mapped ? &alone : nullptr, whole - HEADER_BYTES};
  count(whole - HEADER_BYTES);
  return at + HEADER_BYTES;
}

void* allocate_weights(size_t bytes) {
  const size_t whole = rounded(bytes, ek::ALIGN) + HEADER_BYTES;
  const std::lock_guard lock(slabs);
  Slab* slab = slab_for(whole);
  uint8_t* at = slab->start + slab->used;
  slab->used += whole;
  slab->pieces++;
  *reinterpret_cast<Header*>(at) = {slab, whole - HEADER_BYTES};
  count(whole - HEADER_BYTES);
  return at + HEADER_BYTES;
}

void release_counted(void* data) {
  if (!data) return;
  const Header header = *reinterpret_cast<Header*>(static_cast<uint8_t*>(data) - HEADER_BYTES);
  used.fetch_sub(header.bytes);
  uint8_t* const at = static_cast<uint8_t*>(data) - HEADER_BYTES;
  if (!header.slab) return std::free(at);
  if (header.slab == &alone) {
    unmap_block(at, header.bytes + HEADER_BYTES);
    return;
  }
  const std::lock_guard lock(slabs);
  Slab* slab = header.slab;
  if (--slab->pieces > 0) return;
  if (slab == current_slab) current_slab = nullptr;
  munmap(slab->start, slab->size);
  delete slab;
}

size_t counted_bytes() { return used.load(); }
size_t counted_peak_bytes() { return peak.load(); }
void reset_counted_peak() { peak.store(used.load()); }

}  // namespace shim

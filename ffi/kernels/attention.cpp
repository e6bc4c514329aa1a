#include "attention.h"

#include <algorithm>

namespace exo::kernels {
namespace {

int first_visible(const AttentionArgs& args, int position) {
  return args.window > 0 ? std::max(0, position + 1 - args.window) : 0;
}

int vectors(const AttentionArgs& args, const KvSequence& sequence) {
  return sequence.rows * (args.heads / args.kv.kv_heads);
}

int items_per_head(const AttentionArgs& args, const KvSequence& sequence) {
  return (vectors(args, sequence) + ATTENTION_ITEM - 1) / ATTENTION_ITEM;
}

/** The sequence's first item; its chunks are those of all items. */
AttentionItem item_zero(const AttentionArgs& args, const KvSequence& sequence) {
  AttentionItem item{};
  item.sequence = &sequence;
  item.chunk_begin = first_visible(args, sequence.position) / ATTENTION_CHUNK;
  item.chunk_end = (sequence.position + std::max(sequence.rows, 1) - 1) / ATTENTION_CHUNK + 1;
  return item;
}

int chunks(const AttentionItem& item) { return item.chunk_end - item.chunk_begin; }

/** Finds the sequence that holds item number `at`, or part number `at`. */
AttentionItem locate(const AttentionArgs& args, int at, bool is_part) {
  int parts_before = 0;
  for (int i = 0; i < args.sequence_count; i++) {
    AttentionItem item = item_zero(args, args.sequences[i]);
    const int per_head = items_per_head(args, args.sequences[i]);
    const int items = per_head * args.kv.kv_heads;
    const int size = is_part ? items * chunks(item) : items;
    if (at >= size) {
      at -= size;
      parts_before += items * chunks(item);
      continue;
    }
    const int index = is_part ? at / chunks(item) : at;
    item.kv_head = index / per_head;
    item.first = index % per_head * ATTENTION_ITEM;
    item.count = std::min(ATTENTION_ITEM, vectors(args, args.sequences[i]) - item.first);
    item.first_part = parts_before + index * chunks(item);
    return item;
  }
  return {};
}

}  // namespace

int attention_items(const AttentionArgs& args) {
  int items = 0;
  for (int i = 0; i < args.sequence_count; i++) {
    items += items_per_head(args, args.sequences[i]) * args.kv.kv_heads;
  }
  return items;
}

int attention_parts(const AttentionArgs& args) {
  int parts = 0;
  for (int i = 0; i < args.sequence_count; i++) {
    const int items = items_per_head(args, args.sequences[i]) * args.kv.kv_heads;
    parts += items * chunks(item_zero(args, args.sequences[i]));
  }
  return parts;
}

size_t attention_partial_stride(const AttentionArgs& args) {
  int most = 0;
  for (int i = 0; i < args.sequence_count; i++) {
    most = std::max(most, std::min(ATTENTION_ITEM, vectors(args, args.sequences[i])));
  }
  return size_t(most) * size_t(args.kv.value_dim + 2);
}

size_t attention_partial_floats(const AttentionArgs& args) {
  return size_t(attention_parts(args)) * attention_partial_stride(args);
}

AttentionItem attention_item(const AttentionArgs& args, int item) {
  return locate(args, item, false);
}

AttentionItem attention_item_of_part(const AttentionArgs& args, int part) {
  return locate(args, part, true);
}

}  // namespace exo::kernels

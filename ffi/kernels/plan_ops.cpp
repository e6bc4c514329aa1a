#include "plan_ops.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

namespace exo::kernels {

// Below so many multiplications (or elements) a piece of work is done sooner than handed over.
constexpr size_t SERIAL_WORK_MAX = 16'384;
// Chunks for each thread: enough to even out what a busy machine takes from one of them.
constexpr int CHUNKS_PER_THREAD = 8;
// Rows that a chunk of a product has at most: as many as the tiles' pass takes at once.
constexpr int CHUNK_ROWS = 256;
// The same for attention, whose parts have to be put together again.
constexpr size_t SERIAL_ATTENTION_MAX = 600'000;

Buffer::~Buffer() { std::free(data_); }

uint8_t* Buffer::reserve(size_t bytes) {
  if (bytes <= size_) return data_;
  const size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  uint8_t* grown = static_cast<uint8_t*>(std::aligned_alloc(ALIGN, rounded));
  if (!grown) throw std::bad_alloc();
  std::free(data_);
  data_ = grown;
  size_ = rounded;
  return data_;
}

namespace {

/** Splits `count` items of equal cost among the threads, or runs them all here. */
template <class F>
void split(Pool& pool, int count, size_t work, F&& run) {
  if (work <= SERIAL_WORK_MAX || pool.size() == 1 || count == 1) return run(0, count);
  const int chunks = std::min(count, pool.size() * CHUNKS_PER_THREAD);
  pool.run(chunks, [&](int chunk) {
    const int begin = int(int64_t(count) * chunk / chunks);
    const int end = int(int64_t(count) * (chunk + 1) / chunks);
    run(begin, end);
  });
}

ArrangedRows arrange(const Workbench& bench, const Matrix& matrix, const float* x, int rows) {
  const LinearKernels& kernels = linear_kernels();
  const int blocks =
      matrix.is_quantized ? kernels.quantized_blocks(rows) : kernels.dense_blocks(rows);
  const int inputs = matrix.inputs();
  const size_t bytes = matrix.is_quantized ? quantized_rows_bytes(matrix.spec, rows)
                                           : arranged_rows_bytes(matrix.dense, rows);
  uint8_t* data = bench.arranged.reserve(bytes);
  split(bench.pool, blocks, size_t(rows) * inputs, [&](int begin, int end) {
    if (matrix.is_quantized) {
      kernels.quantize_rows(matrix.spec, x, inputs, rows, begin, end, data);
    } else {
      kernels.arrange_rows(matrix.dense, x, inputs, rows, begin, end, data);
    }
  });
  return {data, rows, blocks};
}

void run_part(const Product& product, const ArrangedRows& x, const Part& part) {
  const LinearKernels& kernels = linear_kernels();
  const Matrix& matrix = *product.matrix;
  const size_t outputs = size_t(matrix.outputs());
  const Output output{product.y, outputs, product.bias, product.residual, outputs};
  if (matrix.is_quantized) {
    kernels.linear(matrix.spec, matrix.data, x, part, output);
  } else {
    kernels.dense_linear(matrix.dense, matrix.data, x, part, output);
  }
}

}  // namespace

bool same_rows(const Matrix& a, const Matrix& b) {
  if (a.is_quantized != b.is_quantized || a.inputs() != b.inputs()) return false;
  if (!a.is_quantized) return true;
  return a.spec.group == b.spec.group && packed_bits(a.spec.bits) == packed_bits(b.spec.bits);
}

void run_products(const Workbench& bench, const float* x, int rows,
                  const std::vector<Product>& products) {
  if (rows == 0) return;
  const ArrangedRows arranged = arrange(bench, *products.front().matrix, x, rows);
  // For one row pairs of panels go fastest, for many more of them; all products share the chunks.
  const int unit = (rows == 1 ? 2 : 4) * PANEL;
  int units = 0;
  for (const Product& product : products) units += (product.matrix->outputs() + unit - 1) / unit;
  const auto run_units = [&](int begin, int end, int block_begin, int block_end) {
    int first = 0;
    for (const Product& product : products) {
      const int outputs = product.matrix->outputs();
      const int count = (outputs + unit - 1) / unit;
      const int from = std::max(begin - first, 0), to = std::min(end - first, count);
      first += count;
      if (from >= to) continue;
      const Part part{from * unit, std::min(to * unit, outputs), block_begin, block_end};
      run_part(product, arranged, part);
    }
  };
  const size_t work = size_t(units) * unit * products.front().matrix->inputs() * rows;
  if (work <= SERIAL_WORK_MAX || bench.pool.size() == 1) {
    return run_units(0, units, 0, arranged.blocks);
  }
  const int strips = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
  const int per_chunk = std::max(1, units * strips / (bench.pool.size() * CHUNKS_PER_THREAD));
  const int chunks = (units + per_chunk - 1) / per_chunk;
  bench.pool.run(chunks * strips, [&](int chunk) {
    const int strip = chunk / chunks, begin = chunk % chunks * per_chunk;
    run_units(begin, std::min(units, begin + per_chunk), arranged.blocks * strip / strips,
              arranged.blocks * (strip + 1) / strips);
  });
}

namespace {

void run_norm(const Workbench& bench, const Op& op, const float* x, int rows, float* out,
              int width) {
  const NormArgs args{{x, size_t(width)}, {out, size_t(width)}, width / op.heads,
                      op.heads,           op.eps,               op.weight,
                      op.bias};
  const auto norm = op.kind == OpKind::rms_norm ? row_kernels().rms_norm : row_kernels().layer_norm;
  split(bench.pool, rows, size_t(rows) * width,
        [&](int begin, int end) { norm(args, begin, end); });
}

void run_elementwise(const Workbench& bench, const Op& op, const float* const* inputs, int rows,
                     float* out, int width) {
  const size_t stride = size_t(width);
  const ElementwiseArgs args{
      {inputs[0], stride}, {inputs[1], stride}, {out, stride}, width, op.scalar};
  split(bench.pool, rows, size_t(rows) * width, [&](int begin, int end) {
    row_kernels().elementwise(op.function, args, begin, end);
  });
}

void run_rope(const Workbench& bench, const Op& op, const float* x, int rows, float* out,
              int width) {
  const size_t stride = size_t(width);
  const RopeArgs args{{x, stride}, {out, stride},      bench.step->positions.data(), op.table,
                      op.heads,    width / op.heads, op.traditional};
  split(bench.pool, rows, size_t(rows) * width,
        [&](int begin, int end) { row_kernels().rope(args, begin, end); });
}

/** The pointers of each sequence's blocks for a layer, one list after the other. */
std::vector<KvSequence> sequences_of(const Workbench& bench, int layer) {
  const Step& step = *bench.step;
  std::vector<uint8_t*>& pointers = bench.pointers;
  pointers.clear();
  for (const StepSequence& sequence : step.sequences) {
    for (int i = 0; i < sequence.block_count; i++) {
      const int32_t block = sequence.blocks[i];
      pointers.push_back(block == GONE ? nullptr : step.kv->at(block, layer));
    }
  }
  std::vector<KvSequence> found;
  found.reserve(step.sequences.size());
  uint8_t* const* next = pointers.data();
  for (const StepSequence& sequence : step.sequences) {
    found.push_back({next, sequence.first_row, sequence.rows, sequence.position});
    next += sequence.block_count;
  }
  return found;
}

/** By whole blocks: positions of one block share cache lines. */
void append_rows(const Workbench& bench, const KvAppendArgs& args, int rows) {
  const int first = args.position / KV_BLOCK;
  const int blocks = (args.position + rows - 1) / KV_BLOCK - first + 1;
  const KvShape& shape = args.shape;
  const size_t work = size_t(rows) * shape.kv_heads * (shape.key_dim + shape.value_dim);
  split(bench.pool, blocks, work, [&](int begin, int end) {
    const int from = std::max((first + begin) * KV_BLOCK - args.position, 0);
    const int to = std::min((first + end) * KV_BLOCK - args.position, rows);
    row_kernels().kv_append(args, from, to);
  });
}

void run_attention(const Workbench& bench, const Op& op, const float* const* inputs,
                   const int* widths, float* out, int width) {
  const KvShape& shape = bench.step->kv->layers()[op.layer];
  const std::vector<KvSequence> sequences = sequences_of(bench, op.layer);
  const size_t k_stride = size_t(widths[1]), v_stride = size_t(widths[2]);
  const RowKernels& kernels = row_kernels();
  size_t scores = 0;
  for (const KvSequence& sequence : sequences) {
    const KvAppendArgs append{shape,
                              const_cast<uint8_t* const*>(sequence.blocks),
                              sequence.position,
                              {inputs[1] + sequence.first_row * k_stride, k_stride},
                              {inputs[2] + sequence.first_row * v_stride, v_stride}};
    append_rows(bench, append, sequence.rows);
    const int end = sequence.position + sequence.rows;
    scores += size_t(sequence.rows) * (op.window > 0 ? std::min(end, op.window) : end);
  }
  AttentionArgs args;
  args.kv = shape;
  args.heads = op.heads;
  args.q = {inputs[0], size_t(widths[0])};
  args.out = {out, size_t(width)};
  args.sequences = sequences.data();
  args.sequence_count = int(sequences.size());
  args.scale = op.scale;
  args.softcap = op.softcap;
  args.window = op.window;
  args.sinks = op.sinks;
  const int items = attention_items(args);
  const size_t work = scores * op.heads * (shape.key_dim + shape.value_dim) / 2;
  const bool is_serial = work <= SERIAL_ATTENTION_MAX || bench.pool.size() == 1;
  if (is_serial) return kernels.attention_rows(args, 0, items);
  if (items >= bench.pool.size() * CHUNKS_PER_THREAD) {
    return bench.pool.run(items, [&](int item) { kernels.attention_rows(args, item, item + 1); });
  }
  const int parts = attention_parts(args);
  const size_t floats = attention_partial_floats(args);
  float* partials = reinterpret_cast<float*>(bench.partials.reserve(floats * sizeof(float)));
  bench.pool.run(parts, [&](int part) {
    kernels.attention_chunks(args, partials, part, part + 1);
  });
  kernels.attention_combine(args, partials, 0, items);
}

void embed_rows(const Op& op, const int32_t* ids, int count, float* y, int width) {
  const LinearKernels& kernels = linear_kernels();
  if (op.matrix.is_quantized) {
    kernels.embed(op.matrix.spec, op.matrix.data, ids, count, y, width);
  } else {
    kernels.dense_embed(op.matrix.dense, op.matrix.data, ids, count, y, width);
  }
}

/** Rows of other ranks' slices are zeros: a sum over the ranks puts them together. */
void embed_slice(const Op& op, const int32_t* ids, int count, float* y, int width) {
  for (int i = 0; i < count; i++, y += width) {
    const int64_t id = int64_t(ids[i]) - op.first_id;
    const int32_t own = int32_t(id);
    if (id >= 0 && id < op.matrix.outputs()) embed_rows(op, &own, 1, y, width);
    else std::fill_n(y, width, 0.0f);
  }
}

void run_embed(const Workbench& bench, const Op& op, int rows, float* out, int width) {
  const int32_t* ids = bench.step->tokens.data();
  split(bench.pool, rows, size_t(rows) * width, [&](int begin, int end) {
    float* y = out + size_t(begin) * width;
    (op.is_slice ? embed_slice : embed_rows)(op, ids + begin, end - begin, y, width);
  });
}

void run_select(const Workbench& bench, const float* x, float* out, int width) {
  const std::vector<int32_t>& selected = bench.step->selected;
  for (size_t i = 0; i < selected.size(); i++) {
    memcpy(out + i * width, x + size_t(selected[i]) * width, width * sizeof(float));
  }
}

}  // namespace

void run_other(const Workbench& bench, const Op& op, const float* const* inputs, const int* widths,
               int rows, float* out, int width) {
  if (rows == 0) return;
  switch (op.kind) {
    case OpKind::embed: return run_embed(bench, op, rows, out, width);
    case OpKind::rms_norm:
    case OpKind::layer_norm: return run_norm(bench, op, inputs[0], rows, out, width);
    case OpKind::elementwise: return run_elementwise(bench, op, inputs, rows, out, width);
    case OpKind::rope: return run_rope(bench, op, inputs[0], rows, out, width);
    case OpKind::attention: return run_attention(bench, op, inputs, widths, out, width);
    case OpKind::select: return run_select(bench, inputs[0], out, width);
    case OpKind::input:
      memcpy(out, bench.step->input, size_t(rows) * width * sizeof(float));
      return;
    case OpKind::sum: return op.group->sum(inputs[0], out, rows, width);
    case OpKind::gather: return op.group->gather(inputs[0], out, rows, width);
    case OpKind::linear: throw std::logic_error("linears run by run_products()");
  }
}

void run_op(const Op& op, const std::vector<const float*>& inputs, const std::vector<int>& widths,
            int rows, float* out, int width, const Step* step, Pool& pool) {
  Buffer arranged, partials;
  std::vector<uint8_t*> pointers;
  const Workbench bench{pool, step, arranged, partials, pointers};
  if (op.kind == OpKind::linear) {
    return run_products(bench, inputs[0], rows, {{&op.matrix, op.bias, nullptr, out}});
  }
  std::array<const float*, 3> at{};
  std::copy_n(inputs.begin(), std::min<size_t>(inputs.size(), at.size()), at.begin());
  run_other(bench, op, at.data(), widths.data(), rows, out, width);
}

Pool& shared_pool() {
  static Pool pool(thread_count());
  return pool;
}

}  // namespace exo::kernels

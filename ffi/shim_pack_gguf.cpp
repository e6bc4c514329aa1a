// Reads matrices of a GGUF file and packs them, or parts of them, while the caller goes on.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <thread>

#include "kernels/pack_gguf.h"
#include "shim_pack.h"

namespace shim {

namespace {

/** A file that several threads read at places of their own. */
class File {
 public:
  explicit File(const char* path) : fd_(open(path, O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw std::runtime_error(std::string("cannot open the file: ") + strerror(errno));
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void read(void* into, size_t bytes, int64_t offset) const {
    uint8_t* at = static_cast<uint8_t*>(into);
    while (bytes > 0) {
      const ssize_t count = pread(fd_, at, bytes, offset);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        const char* why = count == 0 ? "it ends too early" : strerror(errno);
        throw std::runtime_error(std::string("cannot read the file: ") + why);
      }
      at += count;
      bytes -= count;
      offset += count;
    }
  }

 private:
  int fd_;
};

/** GGML's types in the order of TypeScript's list: three plain ones, then those with blocks. */
constexpr int PLAIN_TYPES = 3;

/** Rows or columns: `count` of them from `first` on. */
struct Span {
  int first;
  int count;
};

void require_within(Span span, int all, const char* what) {
  if (span.first >= 0 && span.count >= 0 && span.first <= all - span.count) return;
  throw std::invalid_argument(
      std::string(what) + " " + std::to_string(span.first) + " to " +
      std::to_string(int64_t(span.first) + span.count) + " of " + std::to_string(all));
}

/** A matrix in a file, and the rows and columns of it that are packed. */
struct GgufMatrix {
  ek::Matrix matrix;  // What comes of it.
  int type, file_rows, heads, first_row;
  size_t row_bytes;           // Of a row in the file.
  size_t read_at, read_bytes;  // What is read of a row: the whole blocks that hold the columns.
  int first_group = 0;        // Among the groups that are read.
  int64_t offset = 0;

  GgufMatrix(int type, int file_rows, int file_inputs, int heads, Span rows, Span columns)
      : type(type), file_rows(file_rows), heads(heads), first_row(rows.first) {
    if (heads < 0 || (heads > 0 && file_rows % (2 * heads) != 0)) {
      throw std::invalid_argument("heads must divide the rows into pairs");
    }
    require_within(rows, file_rows, "rows");
    require_within(columns, file_inputs, "columns");
    if (type < PLAIN_TYPES) {
      const ek::Dtype dtype = ek::Dtype(type);
      matrix.dense = {rows.count, columns.count, dtype};
      row_bytes = size_t(file_inputs) * ek::dtype_bytes(dtype);
      read_at = size_t(columns.first) * ek::dtype_bytes(dtype);
      read_bytes = size_t(columns.count) * ek::dtype_bytes(dtype);
    } else {
      set_blocks(file_inputs, rows.count, columns);
    }
  }

  size_t bytes() const {
    return matrix.is_quantized ? ek::packed_bytes(matrix.spec) : ek::packed_bytes(matrix.dense);
  }

  void pack(const void* rows, int begin, int end, uint8_t* dst) const {
    if (matrix.is_quantized) {
      const ek::GgufRows blocks{rows, read_bytes, first_group};
      ek::pack_gguf(ggml_type(), matrix.spec, blocks, begin, end, dst);
    } else {
      ek::pack_dense(matrix.dense, rows, begin, end, dst);
    }
  }

  /**
   * Where in the file the row begins that becomes row `row`. With heads, llama.cpp's order (pair,
   * half) of a head's rows becomes (half, pair), which rotary embedding by halves needs.
   */
  int64_t source_at(int row) const {
    int source = first_row + row;
    if (heads > 0) {
      const int size = file_rows / heads, half = size / 2, inside = source % size;
      source += inside % half * 2 + inside / half - inside;
    }
    return offset + source * int64_t(row_bytes) + int64_t(read_at);
  }

  /** Whether rows that follow each other here do so in the file, with nothing between them. */
  bool is_contiguous() const { return heads == 0 && read_bytes == row_bytes; }

 private:
  ek::GgmlType ggml_type() const { return ek::GgmlType(type - PLAIN_TYPES); }

  void set_blocks(int file_inputs, int rows, Span columns) {
    matrix.is_quantized = true;
    matrix.spec = ek::gguf_spec(ggml_type(), rows, file_inputs);
    const int group = matrix.spec.group;
    if (columns.first % group != 0 || columns.count % group != 0) {
      throw std::invalid_argument("columns must be whole groups of " + std::to_string(group));
    }
    matrix.spec.inputs = columns.count;
    row_bytes = ek::gguf_row_bytes(ggml_type(), file_inputs);
    const int block = ek::gguf_block_values(ggml_type());
    const int first = columns.first / block, end = (columns.first + columns.count + block - 1) / block;
    read_at = ek::gguf_row_bytes(ggml_type(), first * block);
    read_bytes = ek::gguf_row_bytes(ggml_type(), (end - first) * block);
    first_group = columns.first % block / group;
  }
};

std::shared_ptr<PackedMatrix> pack_gguf_matrix(const File& file, const GgufMatrix& source) {
  auto packed = std::make_shared<PackedMatrix>(source.bytes());
  pack_rows(source.matrix.outputs(), [&](int begin, int end) {
    const size_t bytes = (end - begin) * source.read_bytes;
    const auto read = std::make_unique_for_overwrite<uint8_t[]>(bytes);
    if (source.is_contiguous()) {
      file.read(read.get(), bytes, source.source_at(begin));
    } else {
      for (int row = begin; row < end; row++) {
        uint8_t* to = read.get() + (row - begin) * source.read_bytes;
        file.read(to, source.read_bytes, source.source_at(row));
      }
    }
    source.pack(read.get(), begin, end, packed->data);
  });
  packed->matrix = source.matrix;
  packed->matrix.data = packed->data;
  return packed;
}

/** Packs matrices one after the other on a thread of its own, while the caller goes on. */
class PackJob {
 public:
  PackJob(const char* path, std::vector<GgufMatrix> items)
      : file_(path), items_(std::move(items)), thread_([this] { run(); }) {}

  ~PackJob() {
    is_cancelled_ = true;
    thread_.join();
  }

  /** Waits for a matrix, and hands it over. @throws what its packing failed with. */
  std::shared_ptr<PackedMatrix> take(size_t index) {
    std::unique_lock lock(mutex_);
    if (index >= items_.size()) throw std::invalid_argument("no such matrix is being packed");
    changed_.wait(lock, [&] { return packed_.size() > index || failure_; });
    if (packed_.size() <= index) std::rethrow_exception(failure_);
    if (!packed_[index]) throw std::invalid_argument("the matrix was taken already");
    return std::move(packed_[index]);
  }

 private:
  void run() {
    try {
      for (const GgufMatrix& item : items_) {
        if (is_cancelled_) return;
        auto one = pack_gguf_matrix(file_, item);
        const std::lock_guard lock(mutex_);
        packed_.push_back(std::move(one));
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      changed_.notify_all();
    }
  }

  const File file_;
  const std::vector<GgufMatrix> items_;
  std::atomic<bool> is_cancelled_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<PackedMatrix>> packed_;  // As far as they are done.
  std::exception_ptr failure_;
  std::thread thread_;  // Last: it uses all the others.
};

Registry<PackJob>& pack_jobs() {
  static auto* all = new Registry<PackJob>("packing job");
  return *all;
}

}  // namespace

}  // namespace shim

using namespace shim;

int32_t shim_pack_start(
    const char* path, const int32_t* shapes, const uint8_t* offsets, int32_t count) {
  return guarded([=] {
    std::vector<GgufMatrix> items;
    items.reserve(count);
    for (int32_t i = 0; i < count; i++) {
      // Type, rows and inputs in the file, heads; the rows that are taken, the columns.
      const int32_t* shape = shapes + 8 * i;
      const Span rows{shape[4], shape[5]}, columns{shape[6], shape[7]};
      GgufMatrix item(shape[0], shape[1], shape[2], shape[3], rows, columns);
      double offset;
      std::memcpy(&offset, offsets + 8 * i, sizeof offset);
      item.offset = int64_t(offset);
      items.push_back(std::move(item));
    }
    return pack_jobs().add(std::make_shared<PackJob>(path, std::move(items)));
  });
}

int32_t shim_pack_take(int32_t job, int32_t index) {
  return guarded([=] { return matrices().add(pack_jobs().at(job)->take(index)); });
}

int32_t shim_pack_end(int32_t job) {
  return guarded([=] {
    pack_jobs().remove(job);
    return 0;
  });
}

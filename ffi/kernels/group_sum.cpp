// Sums over the ranks. Whole vectors or pieces: the order of the additions is the same, so the bits
// are.
#include <algorithm>
#include <cstring>

#include "group.h"

namespace exo::kernels {

namespace {

/** A part of a sum begins with the number of the sum and of the hop. */
constexpr size_t TAG_BYTES = sizeof(uint32_t);

void add_to(float* __restrict to, const float* __restrict x, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] += x[i];
}

int wrapped(int rank, int size) { return (rank % size + size) % size; }

const float* floats_of(const Frame& frame) {
  return reinterpret_cast<const float*>(frame.bytes.get() + TAG_BYTES);
}

}  // namespace

void Group::sum(const float* x, float* out, int rows, int width) {
  const std::lock_guard lock(summing_);
  const size_t bytes = size_t(rows) * size_t(width) * sizeof(float);
  sums_++;
  const bool is_whole = spec_.size == 2 || bytes <= WHOLE_SUM_BYTES_MAX;
  is_whole ? sum_whole(x, out, rows, width) : sum_pieces(x, out, rows, width);
}

void Group::send_sum(int hop, ByteView part) {
  const uint32_t tag = sums_ << 8 | uint32_t(hop);
  send_frame(FrameKind::sum, {{&tag, sizeof tag}, part});
}

Frame Group::await_sum(int hop, size_t bytes) {
  const uint32_t wanted = sums_ << 8 | uint32_t(hop);
  const auto deadline = Clock::now() + std::chrono::milliseconds(spec_.limits.sum);
  std::optional<Frame> frame = await(FrameKind::sum, deadline);
  uint32_t tag = 0;
  if (!frame) {
    break_off(spec_.previous(), "has sent no part of a sum for " + seconds_text(spec_.limits.sum));
  } else if (frame->size == TAG_BYTES + bytes) {
    memcpy(&tag, frame->bytes.get(), sizeof tag);
  }
  if (frame && tag != wanted) break_off(spec_.previous(), "is at another sum than this rank");
  check();
  return std::move(*frame);
}

/** Everybody's vectors go all the way round, and each rank adds them up. */
void Group::sum_whole(const float* x, float* out, int rows, int width) {
  const size_t bytes = size_t(rows) * size_t(width) * sizeof(float);
  const int size = spec_.size;
  std::array<Frame, GROUP_SIZE_MAX> frames;
  std::array<const float*, GROUP_SIZE_MAX> vectors{};
  vectors[size_t(spec_.rank)] = x;
  send_sum(0, {x, bytes});
  for (int hop = 0; hop < size - 1; hop++) {
    const size_t from = size_t(wrapped(spec_.rank - 1 - hop, size));
    frames[from] = await_sum(hop, bytes);
    vectors[from] = floats_of(frames[from]);
    if (hop < size - 2) send_sum(hop + 1, {vectors[from], bytes});
  }
  for (size_t row = 0; row < size_t(rows); row++) {
    for (int k = 0; k < size; k++) {
      const Segment segment = segment_of(k, size, width);
      const size_t at = row * size_t(width) + segment.begin;
      if (segment.width() == 0) continue;
      memcpy(out + at, vectors[size_t(k)] + at, segment.width() * sizeof(float));
      for (int i = 1; i < size; i++) {
        add_to(out + at, vectors[size_t(wrapped(k + i, size))] + at, segment.width());
      }
    }
  }
}

/** Segment k of each row, one after the other. */
static void cut(const float* x, const Segment& segment, int rows, int width, float* piece) {
  for (size_t row = 0; row < size_t(rows); row++) {
    std::copy_n(x + row * size_t(width) + segment.begin, segment.width(),
                piece + row * segment.width());
  }
}

static void paste(const float* piece, const Segment& segment, int rows, int width, float* out) {
  for (size_t row = 0; row < size_t(rows); row++) {
    std::copy_n(piece + row * segment.width(), segment.width(),
                out + row * size_t(width) + segment.begin);
  }
}

/** Each segment collects its additions on its way round, then goes round again, finished. */
void Group::sum_pieces(const float* x, float* out, int rows, int width) {
  const int size = spec_.size, rank = spec_.rank;
  std::vector<float> piece;
  const auto take_own = [&](int k) {
    const Segment segment = segment_of(k, size, width);
    piece.resize(size_t(rows) * segment.width());
    cut(x, segment, rows, width, piece.data());
  };
  take_own(rank);
  for (int hop = 0; hop < size - 1; hop++) {
    send_sum(hop, {piece.data(), piece.size() * sizeof(float)});
    take_own(wrapped(rank - 1 - hop, size));
    const Frame frame = await_sum(hop, piece.size() * sizeof(float));
    add_to(piece.data(), floats_of(frame), piece.size());
  }
  pass_round(wrapped(rank + 1, size), piece.data(), size, out, rows, width);
}

void Group::gather(const float* x, float* out, int rows, int width) {
  const std::lock_guard lock(summing_);
  sums_++;
  pass_round(spec_.rank, x, 0, out, rows, width);
}

/** Every rank has one segment, this one `first`; they go round until all have all. */
void Group::pass_round(int first, const float* piece, int hop, float* out, int rows, int width) {
  const int size = spec_.size;
  const auto bytes_of = [&](const Segment& one) { return size_t(rows) * one.width() * sizeof(float); };
  Segment segment = segment_of(first, size, width);
  paste(piece, segment, rows, width, out);
  Frame frame;
  for (int i = 1; i < size; i++, hop++) {
    send_sum(hop, {piece, bytes_of(segment)});
    segment = segment_of(wrapped(first - i, size), size, width);
    frame = await_sum(hop, bytes_of(segment));
    piece = floats_of(frame);
    paste(piece, segment, rows, width, out);
  }
}

}  // namespace exo::kernels

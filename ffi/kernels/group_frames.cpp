#include "group_frames.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "group_spec.h"

namespace exo::kernels {

namespace {

/** Frames up to so many bytes are put together first: one call, and one packet. */
constexpr size_t JOINED_BYTES_MAX = 16 * 1024;

size_t total(std::initializer_list<ByteView> parts) {
  size_t size = 0;
  for (const ByteView& part : parts) size += part.size;
  return size;
}

/** The bytes of a frame after the first `skipped` of them. */
std::vector<uint8_t> joined(FrameKind kind, std::initializer_list<ByteView> parts, size_t skipped) {
  const uint32_t header[2] = {uint32_t(kind), uint32_t(total(parts))};
  std::vector<uint8_t> bytes;
  bytes.reserve(FRAME_HEADER_BYTES + header[1] - skipped);
  const auto append = [&](ByteView part) {
    const size_t dropped = std::min(skipped, part.size);
    skipped -= dropped;
    const uint8_t* from = static_cast<const uint8_t*>(part.data) + dropped;
    if (part.size > dropped) bytes.insert(bytes.end(), from, from + (part.size - dropped));
  };
  append({header, sizeof header});
  for (const ByteView& part : parts) append(part);
  return bytes;
}

bool is_blocked() { return errno == EAGAIN || errno == EWOULDBLOCK; }

/** How much of a frame the connection takes now; its queue is empty. */
Traffic send_parts(const Fd& socket, FrameKind kind, std::initializer_list<ByteView> parts) {
  Traffic traffic;
  const auto push = [&](ByteView part) {
    for (size_t at = 0; at < part.size;) {
      const int64_t sent =
          send_now(socket, static_cast<const uint8_t*>(part.data) + at, part.size - at);
      if (sent < 0) {
        if (!is_blocked()) traffic = {traffic.bytes, true, end_text(errno)};
        return false;
      }
      at += size_t(sent);
      traffic.bytes += size_t(sent);
    }
    return true;
  };
  if (total(parts) <= JOINED_BYTES_MAX) {
    const std::vector<uint8_t> bytes = joined(kind, parts, 0);
    push({bytes.data(), bytes.size()});
    return traffic;
  }
  const uint32_t header[2] = {uint32_t(kind), uint32_t(total(parts))};
  if (!push({header, sizeof header})) return traffic;
  for (const ByteView& part : parts) {
    if (!push(part)) break;
  }
  return traffic;
}

}  // namespace

std::string end_text(int error) {
  if (error == 0 || error == EPIPE || error == ECONNRESET) return "has closed the connection";
  return std::string("cannot be reached any more: ") + strerror(error);
}

bool FrameReader::unpack(const std::function<void(Frame)>& take) {
  while (true) {
    if (!has_header_) {
      if (end_ - begin_ < FRAME_HEADER_BYTES) return true;
      uint32_t header[2];
      memcpy(header, staged_.get() + begin_, sizeof header);
      if (header[0] >= uint32_t(FRAME_KINDS) || header[1] > FRAME_BYTES_MAX) return false;
      // Not cleared: every byte is overwritten before anyone sees it.
      frame_ = {FrameKind(header[0]), header[1], std::unique_ptr<uint8_t[]>(new uint8_t[header[1]])};
      begin_ += FRAME_HEADER_BYTES;  // Only now: without memory, it is still a header.
      filled_ = 0;
      has_header_ = true;
    }
    const size_t count = std::min(end_ - begin_, frame_.size - filled_);
    memcpy(frame_.bytes.get() + filled_, staged_.get() + begin_, count);
    begin_ += count;
    filled_ += count;
    if (filled_ < frame_.size) return true;
    has_header_ = false;
    take(std::move(frame_));
  }
}

Traffic FrameReader::read(const Fd& socket, size_t budget,
                          const std::function<void(Frame)>& take) {
  Traffic traffic;
  while (traffic.bytes < budget) {
    // The rest of a long frame goes where it belongs at once.
    const bool is_long = has_header_ && frame_.size - filled_ >= STAGED_BYTES;
    if (!is_long && begin_ > 0) {
      memmove(staged_.get(), staged_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    uint8_t* const to = is_long ? frame_.bytes.get() + filled_ : staged_.get() + end_;
    const size_t room = is_long ? frame_.size - filled_ : STAGED_BYTES - end_;
    const ssize_t count = recv(socket.get(), to, room, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && is_blocked()) return traffic;
    if (count <= 0) return {traffic.bytes, true, end_text(count < 0 ? errno : 0)};
    traffic.bytes += size_t(count);
    (is_long ? filled_ : end_) += size_t(count);
    if (!unpack(take)) return {traffic.bytes, true, "has sent what is no frame"};
    if (size_t(count) < room) return traffic;  // All that there was.
  }
  return traffic;
}

Traffic FrameSender::send(const Fd& socket, FrameKind kind, std::initializer_list<ByteView> parts) {
  const size_t size = total(parts);
  if (size > FRAME_BYTES_MAX) {
    throw std::runtime_error("Cannot send a frame of " + std::to_string(size) + " bytes: " +
                             std::to_string(FRAME_BYTES_MAX) + " at most");
  }
  const std::lock_guard lock(mutex_);
  if (queued_bytes_ + size > queue_bytes_max_) {
    throw std::runtime_error("Cannot send a frame of " + std::to_string(size) + " bytes: " +
                             std::to_string(queued_bytes_) + " wait for the next rank already, " +
                             std::to_string(queue_bytes_max_) + " may");
  }
  Traffic traffic;
  if (queue_.empty()) traffic = send_parts(socket, kind, parts);
  if (traffic.is_over || traffic.bytes == FRAME_HEADER_BYTES + size) return traffic;
  queue_.push_back(joined(kind, parts, traffic.bytes));
  queued_bytes_ += queue_.back().size();
  return traffic;
}

void FrameSender::offer(const Fd& socket, FrameKind kind, std::initializer_list<ByteView> parts) {
  const std::lock_guard lock(mutex_);
  flush_locked(socket);
  if (!queue_.empty()) return;
  const Traffic traffic = send_parts(socket, kind, parts);
  if (traffic.is_over || traffic.bytes == 0 || traffic.bytes == FRAME_HEADER_BYTES + total(parts)) {
    return;
  }
  queue_.push_back(joined(kind, parts, traffic.bytes));  // Half a frame would spoil the next.
  queued_bytes_ += queue_.back().size();
}

Traffic FrameSender::flush(const Fd& socket) {
  const std::lock_guard lock(mutex_);
  return flush_locked(socket);
}

Traffic FrameSender::flush_locked(const Fd& socket) {
  Traffic traffic;
  while (!queue_.empty()) {
    const std::vector<uint8_t>& first = queue_.front();
    const int64_t sent =
        send_now(socket, first.data() + sent_of_first_, first.size() - sent_of_first_);
    if (sent < 0) {
      if (!is_blocked()) traffic = {traffic.bytes, true, end_text(errno)};
      return traffic;
    }
    traffic.bytes += size_t(sent);
    queued_bytes_ -= size_t(sent);
    sent_of_first_ += size_t(sent);
    if (sent_of_first_ < first.size()) continue;
    queue_.pop_front();
    sent_of_first_ = 0;
  }
  return traffic;
}

}  // namespace exo::kernels

// Tests of groups, all ranks in one process: frames, sums, and what ends them.
#include "../group.h"

#include <functional>
#include <numeric>

#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

using Ring = std::vector<std::unique_ptr<Group>>;

GroupSpec spec_of(int rank, int size, int next_port) {
  GroupSpec spec;
  spec.id = "instance/1";
  spec.rank = rank;
  spec.size = size;
  for (int i = 0; i < size; i++) spec.names.push_back("node-" + std::to_string(i));
  spec.next_ip = "127.0.0.1";
  spec.next_port = next_port;
  return spec;
}

/** Does something on each rank, all at once; what each failed with. */
std::vector<std::string> on_all(int size, const std::function<void(int)>& work) {
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; rank++) {
    threads.emplace_back([&, rank] {
      try {
        work(rank);
      } catch (const std::exception& error) {
        errors[size_t(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/** A ring of ranks; `change` may set each one's limits. */
Ring ring_of(int size, const std::function<void(GroupSpec&)>& change = [](GroupSpec&) {}) {
  std::vector<Fd> listeners;
  std::vector<int> ports;
  for (int rank = 0; rank < size; rank++) {
    listeners.push_back(listen_at("127.0.0.1", 0));
    ports.push_back(port_of(listeners.back()));
  }
  Ring ring(static_cast<size_t>(size));
  const Signal never;
  const auto errors = on_all(size, [&](int rank) {
    GroupSpec spec = spec_of(rank, size, ports[size_t((rank + 1) % size)]);
    change(spec);
    ring[size_t(rank)] = std::make_unique<Group>(std::move(listeners[size_t(rank)]), spec, never);
  });
  for (const std::string& error : errors) check(error.empty(), "joining: %s", error.c_str());
  return ring;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

void expect(const std::string& found, const std::string& wanted) {
  check(found == wanted, "found \"%s\", wanted \"%s\"", found.c_str(), wanted.c_str());
}

std::string text_of(const std::optional<Frame>& frame) {
  return frame ? std::string(reinterpret_cast<const char*>(frame->bytes.get()), frame->size)
               : "none";
}

ByteView bytes_of(const std::string& text) { return {text.data(), text.size()}; }

constexpr int LONG_MS = 60'000;

void test_frames_keep_their_order(int size) {
  Ring ring = ring_of(size);
  const int count = 500;
  const auto errors = on_all(size, [&](int rank) {
    Group& group = *ring[size_t(rank)];
    int right = 0;
    for (int i = 0; i < count; i++) {
      const std::string header = std::to_string(rank) + "/" + std::to_string(i);
      group.send(bytes_of(header), bytes_of(std::string(size_t(i % 7) * 1000, char(i))));
    }
    for (int i = 0; i < count; i++) {
      const std::string wanted = std::to_string(group.spec().previous()) + "/" +
                                 std::to_string(i) + std::string(size_t(i % 7) * 1000, char(i));
      right += text_of(group.receive(LONG_MS)) == wanted;
    }
    if (right != count) throw std::runtime_error(std::to_string(right) + " frames are right");
  });
  for (const std::string& error : errors) expect(error, "");
  expect(text_of(ring[0]->receive(0)), "none");
  check(ring[0]->counters().frames_sent >= count, "frames are counted");
}

void test_large_frames_pass_each_other(int size, size_t bytes) {
  Ring ring = ring_of(size);
  const auto errors = on_all(size, [&](int rank) {
    Group& group = *ring[size_t(rank)];
    const std::string body(bytes, char('a' + rank));
    for (int i = 0; i < 3; i++) group.send({}, bytes_of(body));
    for (int i = 0; i < 3; i++) {
      const std::string wanted(bytes, char('a' + group.spec().previous()));
      if (text_of(group.receive(LONG_MS)) != wanted) throw std::runtime_error("another frame");
    }
  });
  for (const std::string& error : errors) expect(error, "");
}

/** Each rank's rows: the same noise for the same row, whatever rows it comes with. */
std::vector<float> rows_of(int rank, int rows, int width) {
  std::vector<float> x;
  for (int row = 0; row < rows; row++) {
    Noise noise(uint32_t(1000 * rank + row % 50));
    for (int i = 0; i < width; i++) x.push_back(noise.uniform() * float(1 + i % 13));
  }
  return x;
}

/** Segment k in the order k, k + 1, and so on. */
std::vector<float> sum_of(int size, int rows, int width) {
  std::vector<std::vector<float>> all;
  for (int rank = 0; rank < size; rank++) all.push_back(rows_of(rank, rows, width));
  std::vector<float> sum(size_t(rows) * size_t(width));
  for (int k = 0; k < size; k++) {
    for (int at = width * k / size; at < width * (k + 1) / size; at++) {
      for (int row = 0; row < rows; row++) {
        const size_t i = size_t(row) * size_t(width) + size_t(at);
        sum[i] = all[size_t(k)][i];
        for (int next = 1; next < size; next++) sum[i] += all[size_t((k + next) % size)][i];
      }
    }
  }
  return sum;
}

void test_sums(int size, const std::vector<std::pair<int, int>>& shapes) {
  Ring ring = ring_of(size);
  for (const auto& [rows, width] : shapes) {
    const std::vector<float> wanted = sum_of(size, rows, width);
    const auto errors = on_all(size, [&, rows = rows, width = width](int rank) {
      const std::vector<float> x = rows_of(rank, rows, width);
      std::vector<float> out(x.size(), -1);
      ring[size_t(rank)]->sum(x.data(), out.data(), rows, width);
      const size_t bytes = out.size() * sizeof(float);
      if (bytes > 0 && memcmp(out.data(), wanted.data(), bytes) != 0) {
        throw std::runtime_error("other bits");
      }
    });
    for (const std::string& error : errors) {
      check(error.empty(), "%d ranks, %d rows of %d: %s", size, rows, width, error.c_str());
    }
  }
}

void test_gathers(int size, const std::vector<std::pair<int, int>>& shapes) {
  Ring ring = ring_of(size);
  for (const auto& [rows, width] : shapes) {
    const std::vector<float> whole = rows_of(9, rows, width);
    const auto errors = on_all(size, [&, rows = rows, width = width](int rank) {
      const Segment own = segment_of(rank, size, width);
      std::vector<float> x, out(whole.size(), -1);
      for (int row = 0; row < rows; row++) {
        const auto begin = whole.begin() + row * width;
        x.insert(x.end(), begin + std::ptrdiff_t(own.begin), begin + std::ptrdiff_t(own.end));
      }
      ring[size_t(rank)]->gather(x.data(), out.data(), rows, width);
      if (out != whole) throw std::runtime_error("other rows");
    });
    for (const std::string& error : errors) {
      check(error.empty(), "%d ranks gather %d rows of %d: %s", size, rows, width, error.c_str());
    }
  }
}

void test_sums_and_frames_do_not_mix() {
  Ring ring = ring_of(3);
  const auto errors = on_all(3, [&](int rank) {
    Group& group = *ring[size_t(rank)];
    for (int i = 0; i < 50; i++) {
      const std::string text = std::to_string(i);
      group.send(bytes_of(text), {});
      float x[2] = {float(rank), float(i)}, out[2];
      group.sum(x, out, 1, 2);
      if (out[0] != 3 || out[1] != float(3 * i)) throw std::runtime_error("another sum");
      if (text_of(group.receive(LONG_MS)) != text) throw std::runtime_error("another frame");
    }
  });
  for (const std::string& error : errors) expect(error, "");
}

void test_one_who_leaves_is_named_by_all(int size) {
  for (int leaver = 0; leaver < size; leaver++) {
    Ring ring = ring_of(size);
    const std::string name = std::to_string(leaver);
    const auto errors = on_all(size, [&](int rank) {
      Group& group = *ring[size_t(rank)];
      if (rank == leaver) return group.close();
      if (rank % 2) return void(group.receive(LONG_MS));
      group.wait_arrival();
      group.receive(0);
    });
    for (int rank = 0; rank < size; rank++) {
      const std::string wanted = "Rank " + name + " on \"node-" + name + "\" has left the group";
      expect(errors[size_t(rank)], rank == leaver ? "" : wanted);
      const std::string later = rank == leaver ? "The group was closed" : wanted;
      float x = 0;
      expect(error_of([&] { ring[size_t(rank)]->sum(&x, &x, 1, 1); }), later);
      expect(error_of([&] { ring[size_t(rank)]->send({}, {}); }), later);
    }
  }
}

/** The thread that waits may not have begun to when the group is closed: that ends as well. */
void test_closing_ends_all_waits() {
  const std::vector<std::function<void(Group&)>> waits = {
      [](Group& group) { group.receive(LONG_MS); },
      [](Group& group) { group.wait_arrival(), group.receive(0); },
      [](Group& group) {
        float x = 0, out = 0;
        group.sum(&x, &out, 1, 1);
      },
  };
  for (const auto& wait : waits) {
    Ring ring = ring_of(2);
    std::string error;
    std::thread waiter([&] { error = error_of([&] { wait(*ring[0]); }); });
    ring[0]->close();
    waiter.join();
    expect(error, "The group was closed");
  }
}

void test_a_silent_rank_is_named() {
  Ring ring = ring_of(3, [](GroupSpec& spec) {
    spec.limits.silence = 700;
    spec.limits.beat = spec.rank == 1 ? 1'000'000 : 100;  // Once at the start, then never.
  });
  const auto errors = on_all(3, [&](int rank) { ring[size_t(rank)]->receive(LONG_MS); });
  for (int rank : {0, 2}) {
    expect(errors[size_t(rank)], "Rank 1 on \"node-1\" has been silent for 0.7 s");
  }
  check(!errors[1].empty(), "the silent one learns that it is out");
}

/** Whose neighbours are met waits for the others, and those that wait for the late one are mute. */
void test_a_late_rank_is_waited_for() {
  constexpr int SILENCE_MS = 200;
  const Ring ring = ring_of(4, [](GroupSpec& spec) {
    spec.limits.silence = SILENCE_MS;
    spec.limits.beat = SILENCE_MS / 4;
    const bool is_late = spec.rank == 3;
    if (is_late) std::this_thread::sleep_for(std::chrono::milliseconds(4 * SILENCE_MS));
  });
  check(ring[1] != nullptr, "all are there");
}

void test_signs_of_life_suffice() {
  Ring ring = ring_of(2, [](GroupSpec& spec) {
    spec.limits.silence = 1'000;
    spec.limits.beat = 50;
  });
  const auto errors = on_all(2, [&](int rank) { ring[size_t(rank)]->receive(2'500); });
  for (const std::string& error : errors) expect(error, "");
}

void test_a_missing_part_of_a_sum_is_named() {
  Ring ring = ring_of(2, [](GroupSpec& spec) { spec.limits.sum = 100; });
  float x = 1, out = 0;
  expect(error_of([&] { ring[0]->sum(&x, &out, 1, 1); }),
         "Rank 1 on \"node-1\" has sent no part of a sum for 0.1 s");
  Ring other = ring_of(2);
  const auto errors = on_all(2, [&](int rank) {
    std::vector<float> in(8, 1), sum(8);
    other[size_t(rank)]->sum(in.data(), sum.data(), 1, rank == 0 ? 8 : 7);
  });
  check(errors[0].find("is at another sum than this rank") != std::string::npos ||
            errors[1].find("is at another sum than this rank") != std::string::npos,
        "%s; %s", errors[0].c_str(), errors[1].c_str());
}

void test_limits_of_bytes() {
  Ring ring = ring_of(2, [](GroupSpec& spec) {
    spec.limits.read_ahead_bytes = 100'000;
    spec.limits.inbox_bytes = 40'000'000;
    spec.limits.queue_bytes = 60'000'000;
    spec.limits.silence = 2'000;
    spec.limits.beat = 50;
  });
  const std::string body(1'000'000, 'x');
  int sent = 0;
  const std::string error = error_of([&] {
    for (; sent < 1000; sent++) ring[0]->send({}, bytes_of(body));
  });
  check(error.find("wait for the next rank already") != std::string::npos, "%s", error.c_str());
  check(sent > 60 && sent < 200, "%d frames were taken", sent);
  int right = 0;
  for (int i = 0; i < sent; i++) right += text_of(ring[1]->receive(LONG_MS)) == body;
  check(right == sent, "%d of %d frames came", right, sent);
  ring[0]->send({}, {});  // The group is as good as before.
  expect(text_of(ring[1]->receive(LONG_MS)), "");
  const std::string giant(FRAME_BYTES_MAX + 1, 'x');
  check(error_of([&] { ring[0]->send({}, bytes_of(giant)); }).find("268435456 at most") !=
            std::string::npos, "a frame has a limit");
  for (int i = 0; i < 60; i++) ring[0]->send({}, bytes_of(body));
  float x = 0, out = 0;
  check(error_of([&] { ring[1]->sum(&x, &out, 1, 1); }).find("that nobody asked for") !=
            std::string::npos, "an inbox has a limit");
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_short = argc > 1 && std::string(argv[argc - 1]) == "short";
  for (int size : {2, 3, 4}) {
    test_frames_keep_their_order(size);
    test_large_frames_pass_each_other(size, size_t(is_short ? 1 : 16) << 20);
    test_sums(size, {{1, 1}, {1, 2}, {1, 3}, {1, 576}, {7, 5}, {3, 1000}, {33, 577}, {9'000, 1},
                     {10'000, 2}, {50, 1'111}, {is_short ? 30 : 300, 4'096}, {0, 8}});
    test_gathers(size, {{1, 1}, {1, 1'001}, {7, 5}, {300, 577}, {0, 8}});
    test_one_who_leaves_is_named_by_all(size);
  }
  test_sums_and_frames_do_not_mix();
  test_closing_ends_all_waits();
  test_a_silent_rank_is_named();
  test_a_late_rank_is_waited_for();
  test_signs_of_life_suffice();
  test_a_missing_part_of_a_sum_is_named();
  test_limits_of_bytes();
  return summary();
}

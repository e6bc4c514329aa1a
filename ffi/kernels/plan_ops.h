// How the operations of a plan run. Internal to the plan_*.cpp.
#pragma once
#include "plan.h"

namespace exo::kernels {

/** Memory that grows to what was asked of it, aligned to ALIGN. */
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  /** At least so many bytes; what was there before is lost if it has to grow. */
  uint8_t* reserve(size_t bytes);
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

/** What one of several products of the same rows makes. */
struct Product {
  const Matrix* matrix;
  const float* bias;
  const float* residual;  // [rows, outputs], or null.
  float* y;               // [rows, outputs]
};

/** What operations share while they run. */
struct Workbench {
  Pool& pool;
  const Step* step;
  Buffer& arranged;  // Rows as the linears read them.
  Buffer& partials;  // Parts of attention.
  std::vector<uint8_t*>& pointers;  // KV blocks of a layer.
};

/** All products of rows x [rows, inputs]; the matrices are of one input and quantisation. */
void run_products(const Workbench& bench, const float* x, int rows,
                  const std::vector<Product>& products);

/** Any operation but a linear. */
void run_other(const Workbench& bench, const Op& op, const float* const* inputs, const int* widths,
               int rows, float* out, int width);

/** Whether products of both can be computed of the same arranged rows. */
bool same_rows(const Matrix& a, const Matrix& b);

/** @throws std::invalid_argument, always: the step asks for what is not there. */
[[noreturn]] void refuse(const std::string& what);

/** @throws std::invalid_argument when sequences do not cover the rows, or lack room or blocks. */
void check_sequences(const Step& step);

/** @throws std::invalid_argument when the pool lacks the layer of an attention. */
void check_layer(const Step& step, const Op& attention);

/** @throws std::invalid_argument when the step brings no rows of this width. */
void check_input(const Step& step, int width);

/** @throws std::invalid_argument when the step has tokens that an embed has no row for. */
void check_tokens(const Step& step, const Op& embed);

/**
 * Blocks may be gone that lie before the window of their sequence's first row.
 * @throws std::invalid_argument when one is that the row sees, or that is written.
 */
void check_window(const Step& step, int window);

}  // namespace exo::kernels

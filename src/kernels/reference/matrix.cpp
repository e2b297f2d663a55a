#include "kernels/reference/matrix.hpp"

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

template <class Tensor>
void require_same(std::string_view name, const Tensor& tensor, Index rows, Index columns) {
  require(tensor.rows() == rows && tensor.cols() == columns, "{} must be {} x {}, not {} x {}",
          name, rows, columns, tensor.rows(), tensor.cols());
}

}  // namespace

void require_extents(std::string_view name, const Matrix& tensor, Index rows, Index columns) {
  require_same(name, tensor, rows, columns);
}

void require_extents(std::string_view name, const IndexMatrix& tensor, Index rows, Index columns) {
  require_same(name, tensor, rows, columns);
}

void require_length(std::string_view name, const Vector& tensor, Index length) {
  require(tensor.size() == length, "{} must have {} elements, not {}", name, length, tensor.size());
}

}  // namespace pipecast::kernels::reference

/// Matrices of the FP64 references that kernels are checked against.
#pragma once

#include <Eigen/Core>
#include <string_view>
#include <vector>

namespace pipecast::kernels::reference {

using Index = Eigen::Index;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using IndexMatrix = Eigen::Matrix<Index, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Indices = std::vector<Index>;

/// @throws Error naming the tensor unless it has these extents.
void require_extents(std::string_view name, const Matrix& tensor, Index rows, Index columns);
void require_extents(std::string_view name, const IndexMatrix& tensor, Index rows, Index columns);
void require_length(std::string_view name, const Vector& tensor, Index length);

}  // namespace pipecast::kernels::reference

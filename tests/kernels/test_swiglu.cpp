#include <catch2/catch.hpp>
#include <vector>

#include "kernels/activation/swiglu.hpp"
#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/reference/swiglu.hpp"
#include "kernels/simt/device_error.hpp"
#include "rows.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Matrix;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int tiles_of(int columns) { return (columns + kScaleTile - 1) / kScaleTile; }

struct Codes {
  Buffer<E4m3> codes;
  Buffer<float> scales;
  Codes(int rows, int columns)
      : codes(extent(rows, columns)), scales(extent(rows, tiles_of(columns))) {}
};

template <class T>
bool same_bits(const Buffer<T>& a, const Buffer<T>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const T& x, const T& y) {
           if constexpr (std::is_same_v<T, float>) {
             return x == y;
           } else {
             return x.bits == y.bits;
           }
         });
}
bool same_bits(const Codes& a, const Codes& b) {
  return same_bits(a.codes, b.codes) && same_bits(a.scales, b.scales);
}

struct Layer {
  int rows;
  int width;
  Buffer<Bf16> gate_up;
  Buffer<Bf16> output_gradient;

  Layer(int rows_, int width_)
      : rows(rows_),
        width(width_),
        gate_up(as_bf16(normal_values(extent(rows, 2 * width), 1, 2.0F))),
        output_gradient(as_bf16(normal_values(extent(rows, width), 2))) {}

  Matrix x() const { return as_matrix(gate_up, rows, 2 * width); }
  Matrix dy() const { return as_matrix(output_gradient, rows, width); }
  GateAndUp kept() const { return {gate_up.data(), nullptr, nullptr, ScaleOrder::kByTile}; }

  Buffer<Bf16> forward(int sms = 0) const {
    Buffer<Bf16> output(extent(rows, width));
    swiglu_fwd({gate_up.data(), output.data(), rows, width, sms});
    synchronise();
    return output;
  }
  Buffer<Bf16> backward(int sms = 0) const {
    Buffer<Bf16> gradient(gate_up.size());
    swiglu_bwd({kept(), output_gradient.data(), gradient.data(), rows, width, sms});
    synchronise();
    return gradient;
  }
};

/// What was kept in FP8, and the BF16 that it stands for.
struct KeptInFp8 {
  Codes codes;
  Buffer<Bf16> values;
  ScaleOrder order;

  KeptInFp8(const Layer& layer, ScaleOrder order_)
      : codes(layer.rows, 2 * layer.width), values(layer.gate_up.size()), order(order_) {
    cast_fp8_1x128({layer.gate_up.data(), codes.codes.data(), codes.scales.data(), layer.rows,
                    2 * layer.width, order, false, 0});
    uncast_fp8({codes.codes.data(), codes.scales.data(), values.data(), layer.rows, 2 * layer.width,
                order, 0});
    synchronise();
  }
  GateAndUp kept() const { return {nullptr, codes.codes.data(), codes.scales.data(), order}; }
};

Codes recompute(const GateAndUp& kept, int rows, int width) {
  Codes result(width, padded_tokens(rows));
  swiglu_recompute_and_cast_transpose(
      {kept, result.codes.data(), result.scales.data(), rows, width, 0});
  synchronise();
  return result;
}

Codes cast_transposed(const Buffer<Bf16>& values, int rows, int columns) {
  Codes result(columns, padded_tokens(rows));
  cast_transpose_fp8_128x1({values.data(), nullptr, nullptr, ScaleOrder::kByTile, nullptr,
                            result.codes.data(), result.scales.data(), rows, columns, 0});
  synchronise();
  return result;
}

/// Widths of a part of a tile, a tile and a half, and more than one turn of a block.
Layer any_layer() {
  const auto [rows, width] =
      GENERATE(std::tuple{1, 8}, std::tuple{5, 128}, std::tuple{131, 72}, std::tuple{40, 264});
  return {rows, width};
}

}  // namespace

TEST_CASE("SwiGLU forward and backward are the FP64 reference's", "[swiglu]") {
  const Layer layer = any_layer();
  CAPTURE(layer.rows, layer.width);
  const Matrix output = reference::swiglu_forward(layer.x());
  const Matrix gradient = reference::swiglu_backward(layer.x(), layer.dy());
  in_every_order([&] {
    REQUIRE(bf16_distance(layer.forward(), output) <= 1);
    REQUIRE(bf16_distance(layer.backward(), gradient) <= 1);
  });
  REQUIRE(same_bits(layer.forward(1), layer.forward()));
  REQUIRE(same_bits(layer.backward(1), layer.backward()));
}

TEST_CASE("SwiGLU's gradient is the slope of the FP64 forward pass", "[swiglu]") {
  const Layer layer(3, 8);
  const Matrix x = layer.x();
  const double step = std::exp2(-16);  // central: the error is of the order of its square
  Matrix slope(x.rows(), x.cols());
  for (reference::Index i = 0; i < x.size(); ++i) {
    Matrix up = x;
    Matrix down = x;
    up.data()[i] += step;
    down.data()[i] -= step;
    const Matrix change = reference::swiglu_forward(up) - reference::swiglu_forward(down);
    slope.data()[i] = change.cwiseProduct(layer.dy()).sum() / (2 * step);
  }
  REQUIRE(bf16_distance(layer.backward(), slope) <= 1);
}

TEST_CASE("a fused cast of SwiGLU has the bits of SwiGLU, then cast", "[swiglu]") {
  const Layer layer = any_layer();
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(layer.rows, layer.width, order);
  const Buffer<Bf16> output = layer.forward();
  Codes separate(layer.rows, layer.width);
  cast_fp8_1x128({output.data(), separate.codes.data(), separate.scales.data(), layer.rows,
                  layer.width, order, false, 0});
  in_every_order([&] {
    Codes fused(layer.rows, layer.width);
    swiglu_fwd_and_cast_fp8({layer.gate_up.data(), fused.codes.data(), fused.scales.data(), order,
                             layer.rows, layer.width, 0});
    synchronise();
    REQUIRE(same_bits(fused, separate));
  });
}

TEST_CASE("SwiGLU from inputs kept in BF16 or FP8, transposed, has the bits of separate kernels",
          "[swiglu]") {
  const Layer layer = any_layer();
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(layer.rows, layer.width, order);
  const Codes from_bf16 = cast_transposed(layer.forward(), layer.rows, layer.width);
  const KeptInFp8 kept(layer, order);
  Buffer<Bf16> output(extent(layer.rows, layer.width));
  swiglu_fwd({kept.values.data(), output.data(), layer.rows, layer.width, 0});
  synchronise();
  const Codes from_fp8 = cast_transposed(output, layer.rows, layer.width);
  in_every_order([&] {
    REQUIRE(same_bits(recompute(layer.kept(), layer.rows, layer.width), from_bf16));
    REQUIRE(same_bits(recompute(kept.kept(), layer.rows, layer.width), from_fp8));
  });
}

TEST_CASE("SwiGLU's backward pass from FP8 has the bits of that from what FP8 stands for",
          "[swiglu]") {
  const Layer layer = any_layer();
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(layer.rows, layer.width, order);
  const KeptInFp8 kept(layer, order);
  Layer same(layer.rows, layer.width);
  std::copy(kept.values.begin(), kept.values.end(), same.gate_up.begin());
  const Buffer<Bf16> expected = same.backward();
  in_every_order([&] {
    Buffer<Bf16> gradient(layer.gate_up.size());
    swiglu_bwd_shared(
        {kept.kept(), layer.output_gradient.data(), gradient.data(), layer.rows, layer.width, 0});
    synchronise();
    REQUIRE(same_bits(gradient, expected));
  });
}

TEST_CASE("the routed rows' output comes again without the weight, their gradient with it",
          "[swiglu]") {
  const Layer layer = any_layer();
  CAPTURE(layer.rows, layer.width);
  const Buffer<float> weight(normal_values(extent(layer.rows, 1), 3));
  Matrix weighted = layer.dy();
  for (int row = 0; row < layer.rows; ++row) {
    weighted.row(row) *= static_cast<double>(weight[extent(row, 1)]);
  }
  const Matrix exact = reference::swiglu_backward(layer.x(), weighted);
  const Buffer<Bf16> output = layer.forward();
  const Buffer<Bf16> unweighted = layer.backward();
  in_every_order([&] {
    Buffer<Bf16> again(output.size());
    Buffer<Bf16> gradient(layer.gate_up.size());
    const auto run = [&](const float* row_weight) {
      swiglu_fwd_bwd_routed({layer.gate_up.data(), layer.output_gradient.data(), row_weight,
                             again.data(), gradient.data(), layer.rows, layer.width, 0});
      synchronise();
    };
    run(weight.data());
    REQUIRE(same_bits(again, output));
    REQUIRE(bf16_distance(gradient, exact) <= 1);
    run(nullptr);
    REQUIRE(same_bits(gradient, unweighted));
  });
}

TEST_CASE("the routing weights' gradient is a product of rows, at its choice", "[swiglu]") {
  // Less than a lane's pieces, just over a turn of a warp, and more rows than blocks.
  const auto [rows, width] = GENERATE(std::tuple{1, 8}, std::tuple{3, 1032}, std::tuple{150, 264});
  CAPTURE(rows, width);
  const Layer layer(rows, width);
  const auto output = as_bf16(normal_values(extent(rows, width), 4));
  const Matrix terms = as_matrix(output, rows, width).cwiseProduct(layer.dy());
  Buffer<int> choices(extent(rows, 1));
  for (int row = 0; row < rows; ++row) {
    choices[extent(row, 1)] = row % 5 == 4 ? -1 : 2 * (rows - 1 - row);
  }
  in_every_order([&, rows = rows, width = width] {
    Buffer<float> gradient(std::vector<float>(extent(rows, 2), 7.0F));
    swiglu_weight_bwd({output.data(), layer.output_gradient.data(), choices.data(), gradient.data(),
                       rows, width, 0});
    synchronise();
    for (int row = 0; row < rows; ++row) {
      const std::size_t own = extent(2, rows - 1 - row);
      REQUIRE(gradient[own + 1] == 7.0F);  // a choice of another GPU
      if (row % 5 == 4) {
        REQUIRE(gradient[own] == 7.0F);
        continue;
      }
      // Each lane adds up to 40 terms, then five sums: fewer than 64 roundings of 2^-24.
      const double allowed = terms.row(row).cwiseAbs().sum() * std::exp2(-18);
      REQUIRE(std::abs(static_cast<double>(gradient[own]) - terms.row(row).sum()) <= allowed);
    }
  });
}

TEST_CASE("SwiGLU keeps NaN, and takes infinite gates to their limits", "[swiglu]") {
  constexpr int kWidth = 8;
  Layer layer(1, kWidth);
  layer.gate_up[0] = to_bf16(kNan);
  layer.gate_up[kWidth + 1] = to_bf16(kNan);
  layer.gate_up[2] = to_bf16(INFINITY);
  layer.gate_up[3] = to_bf16(-INFINITY);
  layer.gate_up[4] = to_bf16(-200.0F);
  layer.gate_up[5] = to_bf16(200.0F);
  layer.output_gradient[6] = to_bf16(kNan);
  const Matrix output = reference::swiglu_forward(layer.x());
  const Matrix gradient = reference::swiglu_backward(layer.x(), layer.dy());
  REQUIRE(output(0, 3) == 0);
  REQUIRE(std::isinf(output(0, 2)));
  in_every_order([&] {
    REQUIRE(bf16_distance(layer.forward(), output) <= 1);
    REQUIRE(bf16_distance(layer.backward(), gradient) <= 1);
    Codes codes(1, kWidth);
    swiglu_fwd_and_cast_fp8({layer.gate_up.data(), codes.codes.data(), codes.scales.data(),
                             ScaleOrder::kByTile, 1, kWidth, 0});
    const Codes transposed = recompute(layer.kept(), 1, kWidth);
    // The tile has an infinity: none of it may look like a number.
    for (std::size_t i = 0; i < kWidth; ++i) {
      REQUIRE(std::isnan(to_float(codes.codes[i]) * codes.scales[0]));
      const float number = to_float(transposed.codes[i * 128]) * transposed.scales[i];
      REQUIRE(std::isnan(number) == (i < 3));
    }
    // A NaN of what was kept in FP8 is one of its gradient.
    const KeptInFp8 kept(layer, ScaleOrder::kByTile);
    Buffer<Bf16> of_kept(layer.gate_up.size());
    swiglu_bwd_shared({kept.kept(), layer.output_gradient.data(), of_kept.data(), 1, kWidth, 0});
    synchronise();
    REQUIRE(std::isnan(to_float(of_kept[0])));
    REQUIRE(std::isnan(to_float(of_kept[kWidth])));
    REQUIRE(std::isnan(to_float(of_kept[1])));
  });
}

TEST_CASE("SwiGLU takes no rows and refuses widths that are no multiple of 8", "[swiglu]") {
  for (const int width : {8, 12}) {
    CAPTURE(width);
    const int rows = width == 8 ? 0 : 1;
    Buffer<Bf16> x(32);
    Codes codes(2, 128);
    Buffer<int> choices(1);
    const auto check = [&](const auto& run) {
      if (rows == 0) {
        run();
      } else {
        REQUIRE_THROWS_WITH(run(), Catch::Contains("multiple of 8"));
      }
    };
    const GateAndUp kept{x.data(), nullptr, nullptr, ScaleOrder::kByTile};
    check([&] { swiglu_fwd({x.data(), x.data(), rows, width, 0}); });
    check([&] {
      swiglu_fwd_and_cast_fp8(
          {x.data(), codes.codes.data(), codes.scales.data(), ScaleOrder::kByTile, rows, width, 0});
    });
    check([&] {
      swiglu_recompute_and_cast_transpose(
          {kept, codes.codes.data(), codes.scales.data(), rows, width, 0});
    });
    check([&] { swiglu_bwd({kept, x.data(), x.data(), rows, width, 0}); });
    check([&] { swiglu_bwd_shared({kept, x.data(), x.data(), rows, width, 0}); });
    check([&] {
      swiglu_fwd_bwd_routed({x.data(), x.data(), nullptr, x.data(), x.data(), rows, width, 0});
    });
    check([&] {
      swiglu_weight_bwd({x.data(), x.data(), choices.data(), codes.scales.data(), rows, width, 0});
    });
    synchronise();
    REQUIRE(x[0].bits == 0xffff);
    REQUIRE(std::isnan(codes.scales[0]));
  }
  const GateAndUp neither{nullptr, nullptr, nullptr, ScaleOrder::kByTile};
  REQUIRE_THROWS_WITH(swiglu_bwd({neither, nullptr, nullptr, 1, 8, 0}),
                      Catch::Contains("either BF16 rows or codes"));
  REQUIRE_THROWS_WITH(swiglu_recompute_and_cast_transpose({neither, nullptr, nullptr, 1, 8, 0}),
                      Catch::Contains("either BF16 rows or codes"));
}

}  // namespace pipecast::kernels

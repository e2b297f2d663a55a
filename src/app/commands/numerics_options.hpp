/// Lists of values on the command line of `pipecast numerics`.
#pragma once

#include <string>
#include <vector>

#include "app/commands/command_line.hpp"
#include "app/numerics/numerics_table.hpp"
#include "kernels/numbers/small_float.hpp"
#include "kernels/numerics/fp8_recipe.hpp"
#include "kernels/numerics/gemm_error.hpp"

namespace pipecast {

/// Declares --NAME VALUES with a default.
void add_list(CommandLine& line, const char* name, const char* fallback, const char* meaning);

// Each reads the list of an option; all throw Error that says what was expected.

/// @param zero_word  a word that stands for 0, such as "none"; empty: there is none
std::vector<ListedValue<int>> whole_numbers(const CommandLine& line, const char* option, int least,
                                            int most, std::string_view zero_word = "");
std::vector<ListedValue<double>> real_numbers(const CommandLine& line, const char* option,
                                              double least, double most);
/// "tensor", "row" or "RxC".
std::vector<ListedValue<kernels::ScaleTile>> tiles(const CommandLine& line, const char* option);
std::vector<ListedValue<kernels::ScaleKind>> scale_kinds(const CommandLine& line);
std::vector<ListedValue<kernels::Distribution>> distributions(const CommandLine& line);
std::vector<ListedValue<kernels::Fp8Kind>> fp8_formats(const CommandLine& line);
/// Names such as bf16, or "eXmY" with X from 2 to 8 and Y from 1 to 23.
std::vector<ListedValue<kernels::SmallFloat>> small_formats(const CommandLine& line);

/// Names of named_recipes(), or "all".
std::vector<ListedValue<kernels::PrecisionRecipe>> recipes(const CommandLine& line);

/// One number.
int whole_number(const CommandLine& line, const char* option, int least, int most);
double real_number(const CommandLine& line, const char* option, double least, double most);

}  // namespace pipecast

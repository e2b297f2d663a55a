/// Validation of JSON documents by draft-07 schemas.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

namespace pipecast::testing {

/// Complaints of the schema about a document, one a line; empty: valid.
inline std::string complaints(const nlohmann::json& schema, const nlohmann::json& document) {
  valijson::Schema compiled;
  const valijson::adapters::NlohmannJsonAdapter schema_adapter(schema);
  valijson::SchemaParser(valijson::SchemaParser::kDraft7).populateSchema(schema_adapter, compiled);
  valijson::ValidationResults results;
  const valijson::adapters::NlohmannJsonAdapter adapter(document);
  std::string out;
  if (valijson::Validator().validate(compiled, adapter, &results)) return out;
  for (valijson::ValidationResults::Error error; results.popError(error);) {
    for (const auto& part : error.context) out += part;
    out += ": " + error.description + "\n";
  }
  return out;
}

}  // namespace pipecast::testing

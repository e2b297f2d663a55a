#include "app/config/text.hpp"

namespace pipecast::config {

namespace {

/// Bytes of the UTF-8 character at the start of `text`; 0 if there is none (RFC 3629, table 3-7
/// of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = first == 0xED && byte(1) > 0x9F;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90;
    const bool beyond = first == 0xF4 && byte(1) > 0x8F;
    return tail(1) && tail(2) && tail(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

}  // namespace

void check_characters(std::string_view text, const std::shared_ptr<const std::string>& source) {
  Origin here{source, 1, 1};
  for (std::size_t i = 0; i < text.size();) {
    require_at(text[i] != '\0', here, "", "a NUL byte; expected text in UTF-8");
    const std::size_t length = utf8_length(text.substr(i));
    require_at(length > 0, here, "", "the byte 0x{:02x} is not UTF-8; expected text in UTF-8",
               static_cast<unsigned char>(text[i]));
    if (text[i] == '\n') {
      ++here.line;
      here.column = 1;
    } else {
      ++here.column;
    }
    i += length;
  }
}

}  // namespace pipecast::config

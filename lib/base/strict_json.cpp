#include "lib/base/strict_json.hpp"

namespace plumb {

std::string short_json_reason(std::string_view message) {
  constexpr size_t kMaxBytes = 160;
  // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error while parsing value - REASON"
  for (const std::string_view mark : {"] ", "syntax error while parsing ", " - "}) {
    const size_t at = message.substr(0, kMaxBytes).find(mark);
    if (at != std::string_view::npos) message.remove_prefix(at + mark.size());
  }
  if (message.size() <= kMaxBytes) return std::string(message);
  size_t end = kMaxBytes;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;
  return std::string(message.substr(0, end)) + "...";
}

}  // namespace plumb

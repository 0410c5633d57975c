// The bytes of the handshake phase (fixed newstyle), for both sides.
//
// Pure functions. What they return points into the bytes given to them. A length that leads outside the given bytes, a
// string that is too long, not UTF-8 or holds a NUL is an error; nothing is allocated before the length was checked.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/protocol.h"

namespace ashlar::nbd {

inline constexpr size_t kGreetingSize = 18;
inline constexpr size_t kClientFlagsSize = 4;
inline constexpr size_t kOptionHeaderSize = 16;
inline constexpr size_t kOptionReplyHeaderSize = 20;

// An option with more data than this is answered with NBD_REP_ERR_TOO_BIG, its data unread into memory. It has room for
// the longest name and many thousand information requests.
inline constexpr uint32_t kMaxOptionLength = 64u << 10;
// More queries than this in one option are too many (NBD_REP_ERR_TOO_BIG).
inline constexpr uint32_t kMaxQueries = 1024;

[[nodiscard]] bool is_valid_string(std::string_view text);  // UTF-8 without NUL, at most kMaxString bytes

struct Greeting {
    uint16_t flags = 0;
};
[[nodiscard]] std::array<std::byte, kGreetingSize> build_greeting(uint16_t flags);
[[nodiscard]] std::optional<Greeting> parse_greeting(std::span<const std::byte, kGreetingSize> bytes);

struct ClientFlags {
    bool fixed_newstyle = false;
    bool no_zeroes = false;
};
// nullopt: a flag that does not exist or was not advertised; the connection must be dropped.
[[nodiscard]] std::optional<ClientFlags> parse_client_flags(std::span<const std::byte, kClientFlagsSize> bytes);

struct OptionHeader {
    uint32_t option = 0;
    uint32_t length = 0;
};
[[nodiscard]] std::optional<OptionHeader> parse_option_header(std::span<const std::byte, kOptionHeaderSize> bytes);
void append_option(std::vector<std::byte>& out, uint32_t option, Bytes data);

// Why an option's data is refused: the reply type to send, and the text that goes with it.
struct OptionError {
    OptionReply reply;
    std::string message;
};
template <class T>
using OptionResult = std::expected<T, OptionError>;

[[nodiscard]] OptionResult<std::string_view> parse_export_name(Bytes data);

// For the options that take no data (LIST, STARTTLS, STRUCTURED_REPLY, EXTENDED_HEADERS).
[[nodiscard]] OptionResult<void> parse_no_data(Bytes data);

struct InfoRequest {  // INFO and GO
    std::string_view name;
    Bytes requests;  // of 16 bits each
    [[nodiscard]] bool wants(Info info) const;
};
[[nodiscard]] OptionResult<InfoRequest> parse_info_request(Bytes data);
[[nodiscard]] std::vector<std::byte> build_info_request(std::string_view name, std::span<const uint16_t> requests);

struct MetaContextRequest {  // LIST_META_CONTEXT and SET_META_CONTEXT
    std::string_view name;
    std::vector<std::string_view> queries;
};
[[nodiscard]] OptionResult<MetaContextRequest> parse_meta_context_request(Bytes data);
[[nodiscard]] std::vector<std::byte> build_meta_context_request(std::string_view name,
                                                                std::span<const std::string> queries);

// Option replies, appended so that a whole answer goes out at once.
void append_option_reply(std::vector<std::byte>& out, uint32_t option, uint32_t type, Bytes data = {});
void append_option_error(std::vector<std::byte>& out, uint32_t option, const OptionError& error);
void append_server_reply(std::vector<std::byte>& out, std::string_view name, std::string_view description);
void append_meta_context_reply(std::vector<std::byte>& out, uint32_t option, uint32_t id, std::string_view name);

struct ExportInfo {
    uint64_t size = 0;
    uint16_t flags = 0;
};
struct BlockSizes {
    uint32_t minimum = 1;
    uint32_t preferred = 4096;
    uint32_t maximum = kMaxPayload;
    bool operator==(const BlockSizes&) const = default;
};
void append_info_export(std::vector<std::byte>& out, uint32_t option, ExportInfo info);
void append_info_string(std::vector<std::byte>& out, uint32_t option, Info type, std::string_view text);
void append_info_block_size(std::vector<std::byte>& out, uint32_t option, BlockSizes sizes);

// The answer to EXPORT_NAME, which is not an option reply.
void append_export_name_reply(std::vector<std::byte>& out, ExportInfo info, bool no_zeroes);
inline constexpr size_t kExportNameReplySize = 10;
inline constexpr size_t kExportNameReplyZeroes = 124;
[[nodiscard]] ExportInfo parse_export_name_reply(std::span<const std::byte, kExportNameReplySize> bytes);

// The client's side of option replies.
struct OptionReplyHeader {
    uint32_t option = 0;
    uint32_t type = 0;
    uint32_t length = 0;
    bool is_error() const { return type & kRepErrorBit; }
};
[[nodiscard]] std::optional<OptionReplyHeader> parse_option_reply_header(
    std::span<const std::byte, kOptionReplyHeaderSize> bytes);

struct ServerReply {
    std::string_view name, description;
};
[[nodiscard]] std::optional<ServerReply> parse_server_reply(Bytes data);

struct MetaContextReply {
    uint32_t id = 0;
    std::string_view name;
};
[[nodiscard]] std::optional<MetaContextReply> parse_meta_context_reply(Bytes data);

struct InfoReply {
    uint16_t type = 0;  // an unknown type is to be ignored; of a known one the member below is set
    ExportInfo export_info;
    BlockSizes block_sizes;
    std::string_view text;  // name or description
};
[[nodiscard]] std::optional<InfoReply> parse_info_reply(Bytes data);  // nullopt: malformed

[[nodiscard]] std::string_view option_name(uint32_t option);      // "NBD_OPT_GO", for messages
[[nodiscard]] std::string_view option_reply_name(uint32_t type);  // "NBD_REP_ERR_UNSUP"

}  // namespace ashlar::nbd

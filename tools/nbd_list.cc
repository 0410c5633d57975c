#include "tools/nbd_list.h"

#include <fmt/core.h>

namespace ashlar {

namespace {

struct FlagName {
    uint16_t flag;
    std::string_view name;
};

constexpr FlagName kFlagNames[] = {
    {nbd::kReadOnly, "readonly"},
    {nbd::kSendFlush, "flush"},
    {nbd::kSendFua, "fua"},
    {nbd::kRotational, "rotational"},
    {nbd::kSendTrim, "trim"},
    {nbd::kSendWriteZeroes, "zeroes"},
    {nbd::kSendDf, "df"},
    {nbd::kCanMultiConn, "multi"},
    {nbd::kSendResize, "resize"},
    {nbd::kSendCache, "cache"},
    {nbd::kSendFastZero, "fast-zero"},
    {nbd::kBlockStatusPayload, "block-status-payload"},
};

// The server's text, without what could play tricks with the terminal.
std::string printable(std::string_view text) {
    std::string out;
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f)
            out += fmt::format("\\x{:02x}", byte);
        else
            out += c;
    }
    return out;
}

}  // namespace

std::string format_export_list(const std::vector<nbd::ExportDetails>& exports) {
    std::string out = fmt::format("exports available: {}\n", exports.size());
    for (const nbd::ExportDetails& e : exports) {
        out += fmt::format(" export: '{}'\n", printable(e.name));
        if (!e.description.empty())
            out += fmt::format("  description: {}\n", printable(e.description));
        if (e.info.flags & nbd::kHasFlags) {
            out += fmt::format("  size:  {}\n  flags: 0x{:x} (", e.info.size, e.info.flags);
            for (const FlagName& flag : kFlagNames)
                if (e.info.flags & flag.flag)
                    out += fmt::format(" {}", flag.name);
            out += " )\n";
        }
        if (e.block_sizes)
            out += fmt::format("  min block: {}\n  opt block: {}\n  max block: {}\n", e.block_sizes->minimum,
                               e.block_sizes->preferred, e.block_sizes->maximum);
        if (!e.contexts.empty()) {
            out += fmt::format("  available meta contexts: {}\n", e.contexts.size());
            for (const nbd::MetaContext& context : e.contexts)
                out += fmt::format("   {}\n", printable(context.name));
        }
    }
    return out;
}

Task<Result<void>> co_print_exports(SocketAddress address) {
    auto socket = co_await nbd::co_connect(std::move(address));
    if (!socket)
        co_return std::unexpected(std::move(socket.error()));
    auto exports = co_await nbd::co_list(*socket);
    if (!exports)
        co_return std::unexpected(std::move(exports.error()));
    fmt::print("{}", format_export_list(*exports));
    co_return Result<void>();
}

}  // namespace ashlar

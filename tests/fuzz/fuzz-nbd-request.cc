// Requests as a server reads and judges them. Two bytes choose header style and export, then come header and payload.
#include <cassert>
#include <vector>

#include "nbd/request.h"

using namespace ashlar::nbd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2)
        return 0;
    auto style = static_cast<HeaderStyle>(data[0] % 3);
    ExportLimits limits{
        .size = (data[1] & 1) ? 1u << 20 : ~0ull >> 1,
        .flags = static_cast<uint16_t>(kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes),
        .min_block = (data[1] & 2) ? 512u : 1u,
        .style = style,
        .has_meta_contexts = (data[1] & 8) != 0};
    limits.flags |= (data[1] & 4 ? kReadOnly : 0) | (data[1] & 16 ? kSendDf | kSendFastZero | kBlockStatusPayload : 0);
    Bytes bytes = std::as_bytes(std::span(data + 2, size - 2));
    size_t header = request_header_size(style);
    if (bytes.size() < header)
        return 0;
    auto request = parse_request(bytes.first(header), style);
    if (!request)
        return 0;
    std::vector<std::byte> rebuilt(header);
    build_request(rebuilt.data(), *request, style);
    assert(std::equal(rebuilt.begin(), rebuilt.end(), bytes.begin()));

    uint64_t payload = payload_length(*request, style);
    if (!validate(*request, limits)) {
        assert(request->type <= kCmdBlockStatus);
        bool filtered = request->type == kCmdBlockStatus && (request->flags & kCmdFlagPayloadLen);
        if (request->type != kCmdDisc && request->type != kCmdFlush && !filtered) {
            assert(request->offset <= limits.size && request->length <= limits.size - request->offset);
            assert((request->offset | request->length) % limits.min_block == 0);
        }
        if (request->type == kCmdWrite) {
            assert(payload == request->length && payload <= limits.max_payload && !(limits.flags & kReadOnly));
        }
    }
    if (style == HeaderStyle::Extended && payload <= bytes.size() - header) {
        uint32_t known[] = {0, 1, 2};
        if (auto filter = parse_block_status_payload(bytes.subspan(header, payload), known))
            assert(filter->ids.size() <= std::size(known));
    }
    return 0;
}

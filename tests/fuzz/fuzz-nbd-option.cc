// The data of NBD options as a server reads it. The first byte chooses the option.
#include <cassert>
#include <vector>

#include "nbd/handshake.h"

using namespace ashlar::nbd;

namespace {

void check_info(Bytes data) {
    auto request = parse_info_request(data);
    if (!request)
        return;
    assert(is_valid_string(request->name));
    (void)request->wants(kInfoBlockSize);
    assert(request->name.size() + request->requests.size() + 6 == data.size());
}

void check_meta_context(Bytes data) {
    auto request = parse_meta_context_request(data);
    if (!request)
        return;
    std::vector<std::string> queries(request->queries.begin(), request->queries.end());
    auto rebuilt = build_meta_context_request(request->name, queries);
    assert(std::equal(rebuilt.begin(), rebuilt.end(), data.begin(), data.end()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0)
        return 0;
    Bytes bytes = std::as_bytes(std::span(data + 1, size - 1));
    switch (data[0]) {
        case kOptExportName:
            if (auto name = parse_export_name(bytes))
                assert(is_valid_string(*name));
            break;
        case kOptInfo:
        case kOptGo:
            check_info(bytes);
            break;
        case kOptListMetaContext:
        case kOptSetMetaContext:
            check_meta_context(bytes);
            break;
        default:
            if (bytes.size() >= kOptionHeaderSize)
                (void)parse_option_header(bytes.first<kOptionHeaderSize>());
            if (bytes.size() >= kClientFlagsSize)
                (void)parse_client_flags(bytes.first<kClientFlagsSize>());
            assert(parse_no_data(bytes).has_value() == bytes.empty());
    }
    return 0;
}

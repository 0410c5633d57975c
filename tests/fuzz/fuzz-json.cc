// JsonStream and the parser: however the bytes are cut the results are the same, and what is read is the same after
// being written and read again. The first byte says where to cut.
#include <cassert>
#include <string>

#include "util/json.h"
#include "util/json_stream.h"

using namespace ashlar;

namespace {

std::string drain(JsonStream& stream) {
    std::string all;
    while (auto item = stream.next()) {
        if (!*item) {
            all += item->error().message + "\n";
            continue;
        }
        std::string text = dump_json(**item);
        auto again = parse_json(text);
        assert(again && *again == **item);
        auto pretty = parse_json(dump_json_pretty(**item));
        assert(pretty && *pretty == **item);
        all += text + "\n";
    }
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0)
        return 0;
    std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    size_t piece = size_t{data[0]} % 16 + 1;
    const JsonStream::Limits limits{.bytes = 2048, .elements = 64};

    JsonStream whole(limits), pieces(limits);
    whole.feed(bytes);
    std::string expected = drain(whole), got;
    for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
        pieces.feed(rest.substr(0, piece));
        got += drain(pieces);
    }
    assert(got == expected);

    pieces.feed("\xff[]");
    assert(drain(pieces).ends_with("[]\n"));
    return 0;
}

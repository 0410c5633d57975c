// NBD URIs: one that is accepted is the same after being written and read again.
#include <cassert>

#include "nbd/uri.h"

using namespace ashlar::nbd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    auto uri = parse_uri(text);
    if (!uri)
        return 0;
    auto again = parse_uri(to_string(*uri));
    assert(again && *again == *uri);
    return 0;
}

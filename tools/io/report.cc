#include "tools/io/report.h"

#include "util/timer.h"

#include <fmt/core.h>

#include <cstring>

namespace ashlar {

std::optional<IoRange> IoRange::take(std::span<const std::string> words) {
    auto offset = take_size(words[0]);
    if (!offset)
        return std::nullopt;
    auto bytes = take_size(words[1]);
    if (!bytes)
        return std::nullopt;
    return IoRange{*offset, *bytes};
}

bool IoRange::is_sector_aligned() const {
    return ashlar::is_sector_aligned(offset, "offset") && ashlar::is_sector_aligned(bytes, "count");
}

bool is_within_one_request(int64_t bytes, std::string_view text, std::string_view unless) {
    if (bytes > kMaxIoBytes)
        fmt::print("length cannot exceed {}{}, given {}\n", kMaxIoBytes, unless, text);
    return bytes <= kMaxIoBytes;
}

bool IoReport::take(char option) {
    switch (option) {
        case 'C':
            return statistics.machine_readable = true;
        case 'q':
            return quiet = true;
        case 'v':
            return verbose = true;
        default:
            return false;
    }
}

void IoReport::is_of(std::string_view verb, IoRange range) {
    statistics.verb = verb;
    statistics.offset = range.offset;
    statistics.bytes = range.bytes;
}

bool IoReport::finish(std::string_view what, int ret, const IoBuffer* read) const {
    if (ret < 0) {
        fmt::print("{} failed: {}\n", what, strerror(-ret));
        return false;
    }
    bool ok = true;
    if (pattern) {
        const int64_t at = pattern_offset.value_or(0);
        const int64_t length = pattern_length.value_or(statistics.bytes - at);
        ok = read->is_all(*pattern, at, length);
        if (!ok)
            fmt::print("Pattern verification failed at offset {}, {} bytes\n", statistics.offset + at, length);
    }
    if (quiet)
        return ok;
    if (verbose)
        fmt::print("{}", format_dump(read->data(), statistics.offset));
    fmt::print("{}", format_statistics(statistics));
    return ok;
}

Task<bool> IoReport::co_finish(std::string_view what, Task<int> request, const IoBuffer* read) {
    statistics.start_ns = now_ns();
    const int ret = co_await std::move(request);
    statistics.end_ns = now_ns();
    co_return finish(what, ret, read);
}

}  // namespace ashlar

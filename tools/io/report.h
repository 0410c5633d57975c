// IoReport: how a command tells that it has read, written or discarded: what -C, -q, -v and -P ask for.
#pragma once

#include "tools/io/arguments.h"
#include "tools/io/buffer.h"
#include "tools/io/output.h"
#include "util/task.h"

#include <optional>

namespace ashlar {

struct IoRange {
    int64_t offset = 0, bytes = 0;

    // words: the offset and the length, as typed. Prints what is wrong.
    static std::optional<IoRange> take(std::span<const std::string> words);
    bool is_sector_aligned() const;  // or prints that it is not
};

// Prints that it is not, `text` being what was typed; `unless` says what would lift the limit.
bool is_within_one_request(int64_t bytes, std::string_view text, std::string_view unless = "");

struct IoReport {
    IoStatistics statistics = {};
    bool quiet = false;                                               // -q
    bool verbose = false;                                             // -v: dumps what was read
    std::optional<int> pattern = {};                                  // -P: what must have been read,
    std::optional<int64_t> pattern_offset = {}, pattern_length = {};  // there

    // Whether `option` is one of -C, -q and -v, and is taken.
    bool take(char option);
    void is_of(std::string_view verb, IoRange range);

    // Says that `what` has failed, or verifies and prints what is asked for; `read`: the memory, of a read. False: it
    // has failed, or what was read is not the pattern.
    bool finish(std::string_view what, int ret, const IoBuffer* read) const;
    // finish() for a request that is awaited and timed.
    [[nodiscard]] Task<bool> co_finish(std::string_view what, Task<int> request, const IoBuffer* read = nullptr);
};

}  // namespace ashlar

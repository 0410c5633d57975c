// A protocol driver whose file is memory that the fuzz target gave it: "memory". One at a time.
#pragma once

#include "block/block_graph.h"
#include "block/io_vector.h"
#include "util/options.h"

#include <cstring>
#include <vector>

namespace ashlar {

struct MemoryFile {
    static constexpr size_t kMaxBytes = 16 << 20;  // then it is full
    std::vector<std::byte> bytes;
};

inline MemoryFile g_memory_file;

struct MemoryOptions {
    static const OptionSet<MemoryOptions>& options() {
        static const auto set = OptionSet<MemoryOptions>("memory");
        return set;
    }
};

class MemoryDriver final : public BlockDriver {
public:
    explicit MemoryDriver(const OpenContext& context) : BlockDriver(context) {}

    Task<int> co_preadv(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        iov_copy_in(iov, 0, g_memory_file.bytes.data() + offset, bytes);
        co_return 0;
    }
    Task<int> co_pwritev(int64_t offset, int64_t bytes, IoVector iov, RequestFlags) override {
        auto end = static_cast<size_t>(offset + bytes);
        if (end > MemoryFile::kMaxBytes)
            co_return -ENOSPC;
        if (end > g_memory_file.bytes.size())
            g_memory_file.bytes.resize(end);
        iov_copy_out(iov, 0, g_memory_file.bytes.data() + offset, bytes);
        co_return 0;
    }
    Task<int> co_flush() override { co_return 0; }
    Task<Result<>> co_truncate(int64_t size, bool, PreallocMode, RequestFlags) override {
        if (static_cast<size_t>(size) > MemoryFile::kMaxBytes)
            co_return fail_errno(ENOSPC, "the file is full");
        g_memory_file.bytes.resize(static_cast<size_t>(size));
        co_return {};
    }
    int64_t length() const override { return static_cast<int64_t>(g_memory_file.bytes.size()); }
};

inline Task<Result<std::unique_ptr<BlockDriver>>> co_open_memory(OpenContext& context) {
    if (auto options = context.parse<MemoryOptions>(); !options)
        co_return std::unexpected(std::move(options.error()));
    co_return std::make_unique<MemoryDriver>(context);
}

inline const DriverType kMemoryDriver = {.name = "memory",
                                         .options = [] -> const OptionSchema& { return MemoryOptions::options(); },
                                         .co_open = co_open_memory,
                                         .is_protocol = true};

}  // namespace ashlar

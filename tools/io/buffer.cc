#include "tools/io/buffer.h"

#include "tools/io/arguments.h"
#include "util/unique_fd.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ashlar {

std::optional<IoBuffer> IoBuffer::allocate(int64_t bytes, bool misalign) {
    constexpr size_t kMisalignment = 16;
    IoBuffer buffer;
    buffer.skip_ = misalign ? kMisalignment : 0;
    buffer.bytes_ = bytes;
    buffer.memory_ = Buffer::try_alloc(static_cast<size_t>(bytes) + buffer.skip_ + 1);
    if (!buffer.memory_) {
        fmt::print(stderr, "cannot allocate {} bytes of memory\n", bytes);
        return std::nullopt;
    }
    buffer.elements_ = {{buffer.data().data(), static_cast<size_t>(bytes)}};
    return buffer;
}

std::optional<IoBuffer> IoBuffer::filled(int64_t bytes, int fill, bool misalign) {
    auto buffer = allocate(bytes, misalign);
    if (buffer)
        memset(buffer->data().data(), fill, static_cast<size_t>(bytes));
    return buffer;
}

std::optional<IoBuffer> IoBuffer::with_lengths(std::span<const std::string> texts, int fill, bool misalign) {
    std::vector<size_t> lengths;
    int64_t total = 0;
    for (const std::string& text : texts) {
        auto length = take_size(text);
        if (!length)
            return std::nullopt;
        if (*length > kMaxIoBytes) {
            fmt::print("Argument '{}' exceeds maximum size {}\n", text, kMaxIoBytes);
            return std::nullopt;
        }
        if (*length > kMaxIoBytes - total) {
            fmt::print("The total number of bytes exceed the maximum size {}\n", kMaxIoBytes);
            return std::nullopt;
        }
        lengths.push_back(static_cast<size_t>(*length));
        total += *length;
    }
    auto buffer = filled(total, fill, misalign);
    if (!buffer)
        return buffer;
    buffer->elements_.clear();
    std::byte* at = buffer->data().data();
    for (size_t length : lengths) {
        buffer->elements_.push_back({at, length});
        at += length;
    }
    return buffer;
}

std::optional<IoBuffer> IoBuffer::from_file(const std::string& filename, int64_t bytes, bool misalign) {
    UniqueFd file(open(filename.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        fmt::print(stderr, "{}: {}\n", filename, strerror(errno));
        return std::nullopt;
    }
    auto buffer = allocate(bytes, misalign);
    if (!buffer)
        return buffer;
    auto data = buffer->data();
    size_t have = 0;
    while (have < data.size()) {
        ssize_t got = read(file.get(), data.data() + have, data.size() - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            fmt::print(stderr, "{}: {}\n", filename, strerror(errno));
            return std::nullopt;
        }
        if (got == 0)
            break;
        have += static_cast<size_t>(got);
    }
    if (have == 0 && bytes > 0) {
        fmt::print(stderr, "{}: file is empty\n", filename);
        return std::nullopt;
    }
    // The file again and again.
    for (size_t at = have; at < data.size(); at += have)
        memcpy(data.data() + at, data.data(), std::min(have, data.size() - at));
    return buffer;
}

bool IoBuffer::is_all(int pattern, int64_t offset, int64_t bytes) const {
    auto part = data().subspan(static_cast<size_t>(offset), static_cast<size_t>(bytes));
    return std::all_of(part.begin(), part.end(), [&](std::byte b) { return b == static_cast<std::byte>(pattern); });
}

}  // namespace ashlar

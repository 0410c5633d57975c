// ImageCompare: whether two images have the same contents. Where one of them ends, the other one must be zeroes.
//
// Several pieces are read and compared at a time (image_workers.h); what is told is what the first one in the order of
// the disk has found, a difference or an error, as if they had been looked at one behind the other.
//
// Made, run once and destroyed in the main context; nobody writes to the images meanwhile.
#pragma once

#include "block/image_workers.h"
#include "util/buffer_pool.h"
#include "util/co_mutex.h"
#include "util/progress.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace ashlar {

struct ImageDifference {
    enum class Kind : uint8_t { Contents, Status };
    Kind kind = Kind::Contents;
    int64_t offset = 0;  // of the first sector whose contents differ; where the block status begins to differ
};

struct ImageCompareOptions {
    bool strict = false;  // what is data, zeroes and allocated must be the same
    // As in ImageCopyOptions.
    std::optional<unsigned> coroutines;
    std::optional<unsigned> threads;
    int64_t piece = 512 << 10;  // bytes
};

class ImageCompare : ImageWorkers {
public:
    // The images, whose lengths are known, outlive it; the names are for errors.
    ImageCompare(std::array<BlockBackend*, 2> images, std::array<std::string, 2> names, ImageCompareOptions options,
                 Progress& progress);

    // Nothing: they are the same.
    [[nodiscard]] Task<Result<std::optional<ImageDifference>>> co_run();
    // Afterwards: how much was gone through without finding anything.
    int64_t equal_up_to() const { return equal_up_to_; }

private:
    struct Extent {
        int64_t start = 0, end = 0;
        unsigned flags = 0;  // of BlockStatus, those that count
        bool contains(int64_t offset) const { return start <= offset && offset < end; }
    };
    struct Piece {
        int64_t offset = 0, bytes = 0;
        uint64_t ticket = 0;
        std::array<bool, 2> read = {};
        std::optional<ImageDifference> difference;
        std::optional<Error> error;
        bool is_equal() const { return !difference && !error; }
    };
    using Buffers = std::array<Buffer, 2>;

    [[nodiscard]] Task<void> co_worker() override;
    [[nodiscard]] Task<bool> co_next(Piece& piece);  // false: there is none
    [[nodiscard]] Task<Result<void>> co_look(size_t which, int64_t offset);
    [[nodiscard]] Task<void> co_check(Piece& piece, Buffers& buffers);
    [[nodiscard]] Task<void> co_read(size_t which, const Piece& piece, const Buffer& buffer, int& ret);
    void conclude(Piece& piece);

    const std::array<BlockBackend*, 2> images_;
    const std::array<std::string, 2> names_;
    const ImageCompareOptions options_;
    Progress& progress_;
    const std::array<int64_t, 2> lengths_;
    const int64_t total_;

    CoMutex cursor_lock_;  // for what follows
    int64_t cursor_ = 0;
    uint64_t tickets_ = 0;
    std::array<Extent, 2> known_;

    // Of whose turn it is.
    std::optional<ImageDifference> difference_;
    int64_t equal_up_to_ = 0;
};

}  // namespace ashlar

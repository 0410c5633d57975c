// ImageCopy: copies the contents of images, one behind the other, to the beginning of a target.
//
// Several coroutines take pieces in turn; each finds out what the piece is (the sources' block status, asked for in
// large ranges ahead of the copying and remembered), reads it, looks for zeroes, and writes. Without `out_of_order` the
// writes of a piece begin when those of the piece before it have begun: an image format allocates in order, while the
// writes themselves overlap.
// The work is shared as image_workers.h says: what a thread has read is still in its CPU's cache when it writes it, and
// while one writes another reads.
//
// Made, run and destroyed in the main context; nobody else writes to the images meanwhile. Images that end within a
// sector are as long as the sector, with zeroes.
#pragma once

#include "block/image_workers.h"
#include "util/co_mutex.h"
#include "util/progress.h"
#include "util/throttle.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace ashlar {

struct ImageCopyOptions {
    // How many pieces are in the works at a time, and the threads that they share (0: the caller's); by default as many
    // as pay.
    std::optional<unsigned> coroutines;
    std::optional<unsigned> threads;
    bool out_of_order = false;
    bool compressed = false;    // whole clusters are written with RequestFlags::Compressed
    int64_t min_zeroes = 4096;  // so many bytes of zeroes in a row are not written as data; 0: all is written as data
    // From here on the target reads as zeroes, which need not be written.
    int64_t target_zero_from = INT64_MAX;
    // What the sources' top layers, so many of them, do not have is not copied: it is in what lies below the target, or
    // in the target, already. 0: everything is copied.
    unsigned own_layers = 0;
    bool offload = false;                                       // let the host copy from file to file where it can
    bool salvage = false;                                       // what cannot be read is zeroes
    uint64_t bytes_per_second = 0;                              // 0: no limit
    int64_t piece = 1 << 20;                                    // bytes
    std::function<void(int64_t offset, int error)> unreadable;  // salvage: tells of what could not be read; any thread
};

class ImageCopy : ImageWorkers {
public:
    // The images outlive it.
    ImageCopy(std::vector<BlockBackend*> sources, BlockBackend& target, ImageCopyOptions options, Progress& progress);

    // Errors: "error while reading at byte N: ..."; ECANCELED after cancel().
    [[nodiscard]] Task<Result<void>> co_run();
    using ImageWorkers::cancel;

    static int64_t total_length(std::span<BlockBackend* const> sources);  // whole sectors, or a negative errno

private:
    enum class Kind : uint8_t { Data, Zero, Backing };
    struct Source {
        BlockBackend* image;
        int64_t start;   // in the target
        int64_t length;  // of what it has
        bool has_backing;
        int64_t own_end;  // behind it the layers that are the source's own hide what lies below them
    };
    struct Extent {
        int64_t start = 0, end = 0;
        Kind kind = Kind::Data;
        bool contains(int64_t offset) const { return start <= offset && offset < end; }
    };
    struct Piece {
        int64_t offset = 0, bytes = 0;
        Kind kind = Kind::Data;
        uint64_t ticket = 0;
        int64_t end() const { return offset + bytes; }
    };

    static Options workers(const std::vector<BlockBackend*>& sources, BlockBackend& target,
                           const ImageCopyOptions& options);
    [[nodiscard]] Task<void> co_worker() override;
    [[nodiscard]] Task<bool> co_next(Piece& piece);  // false: there is none
    [[nodiscard]] Task<Result<void>> co_look(int64_t offset);
    [[nodiscard]] Task<void> co_limit_rate(int64_t bytes);
    [[nodiscard]] Task<Result<void>> co_read(const Piece& piece, std::byte* data);
    [[nodiscard]] Task<int> co_read_part(Source& source, int64_t offset, int64_t bytes, std::byte* data);
    void pass(const Piece& piece);
    [[nodiscard]] Task<void> co_write(const Piece& piece, const std::byte* data);
    [[nodiscard]] Task<void> co_write_data(int64_t offset, int64_t bytes, const std::byte* data);
    [[nodiscard]] Task<void> co_write_zeroes(int64_t offset, int64_t bytes);
    [[nodiscard]] Task<bool> co_offload(const Piece& piece);  // false: it is to be copied here
    Source& source_at(int64_t offset);
    int64_t own_end(const BlockDriverState& top) const;

    BlockBackend& target_;
    ImageCopyOptions options_;
    Progress& progress_;
    std::vector<Source> sources_;
    int64_t total_ = 0;
    int64_t grain_ = 1;       // pieces begin and end at multiples of it, or at the end
    int64_t zero_grain_ = 1;  // zeroes are looked for in blocks of this size

    CoMutex cursor_lock_;  // for what follows
    int64_t cursor_ = 0;
    uint64_t tickets_ = 0;
    Extent known_;
    ThrottleState throttle_;

    std::atomic<bool> offload_;
};

}  // namespace ashlar

#include "block/image_compare.h"

#include "block/io_vector.h"
#include "util/task_scope.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ashlar {

namespace {

constexpr int64_t kLookAhead = int64_t{1} << 30;  // of one question for the block status
constexpr unsigned kCounts = BlockStatus::Data | BlockStatus::Zero | BlockStatus::Allocated;

constexpr int64_t sector_at(int64_t offset, int64_t end) {
    return std::min(kSectorSize, end - offset);
}

bool is_zero(const std::byte* data, int64_t bytes) {
    iovec element{const_cast<std::byte*>(data), static_cast<size_t>(bytes)};
    return iov_is_zero(IoVector(element));
}

}  // namespace

ImageCompare::ImageCompare(std::array<BlockBackend*, 2> images, std::array<std::string, 2> names,
                           ImageCompareOptions options, Progress& progress)
    : ImageWorkers(
          {.images = {images.begin(), images.end()}, .coroutines = options.coroutines, .threads = options.threads}),
      images_(images),
      names_(std::move(names)),
      options_(options),
      progress_(progress),
      lengths_{images[0]->length(), images[1]->length()},
      total_(std::ranges::max(lengths_)) {}

Task<Result<std::optional<ImageDifference>>> ImageCompare::co_run() {
    progress_.add_work(static_cast<uint64_t>(total_));
    if (auto worked = co_await co_work(); !worked)
        co_return std::unexpected(std::move(worked.error()));
    co_return difference_;
}

Task<void> ImageCompare::co_worker() {
    Buffers buffers;
    Piece piece;
    while (co_await co_next(piece)) {
        if (piece.is_equal() && (piece.read[0] || piece.read[1]))
            co_await co_check(piece, buffers);
        co_await co_await_turn(piece.ticket);
        if (may_go_on())
            conclude(piece);
    }
}

// In the piece's turn.
void ImageCompare::conclude(Piece& piece) {
    if (piece.error) {
        fail_with(std::move(*piece.error));
    } else if (piece.difference) {
        difference_ = piece.difference;
        stop();
    } else {
        equal_up_to_ = piece.offset + piece.bytes;
        progress_.add_done(static_cast<uint64_t>(piece.bytes));
        pass_turn(piece.ticket);
    }
}

// What an image has at `offset`, and on from there.
Task<Result<void>> ImageCompare::co_look(size_t which, int64_t offset) {
    Extent& known = known_[which];
    if (known.contains(offset))
        co_return {};
    if (offset >= lengths_[which]) {
        known = {offset, total_, BlockStatus::Zero};
        co_return {};
    }
    const int64_t most = std::min(lengths_[which] - offset, kLookAhead);
    const BlockStatus status = co_await images_[which]->co_block_status_above(offset, most);
    if (status.ret < 0 || status.bytes <= 0)
        co_return fail("Sector allocation test failed for {}", names_[which]);
    known = {offset, offset + status.bytes, status.flags & kCounts};
    co_return {};
}

Task<bool> ImageCompare::co_next(Piece& piece) {
    CoMutex::Guard guard = co_await cursor_lock_.co_lock();
    if (!may_go_on() || cursor_ >= total_)
        co_return false;
    piece = Piece{.offset = cursor_, .ticket = tickets_++};
    for (size_t which = 0; which < images_.size() && piece.is_equal(); ++which)
        if (auto looked = co_await co_look(which, cursor_); !looked)
            piece.error = std::move(looked.error());
    if (piece.is_equal() && options_.strict && cursor_ < std::ranges::min(lengths_) &&
        known_[0].flags != known_[1].flags)
        piece.difference = {ImageDifference::Kind::Status, cursor_};
    if (!piece.is_equal()) {
        cursor_ = total_;  // what is behind it does not matter any more
        co_return true;
    }
    int64_t end = std::min({known_[0].end, known_[1].end, total_});
    for (size_t which = 0; which < images_.size(); ++which)
        piece.read[which] = !(known_[which].flags & BlockStatus::Zero);
    if (piece.read[0] || piece.read[1])
        end = std::min(end, cursor_ + options_.piece);
    piece.bytes = end - cursor_;
    cursor_ = end;
    co_return true;
}

Task<void> ImageCompare::co_read(size_t which, const Piece& piece, const Buffer& buffer, int& ret) {
    iovec element{buffer.data(), static_cast<size_t>(piece.bytes)};
    ret = co_await images_[which]->co_preadv(piece.offset, piece.bytes, IoVector(element));
}

// Reads what is not known to be zeroes, and looks for the first sector that differs.
Task<void> ImageCompare::co_check(Piece& piece, Buffers& buffers) {
    std::array<int, 2> ret = {};
    TaskScope reads;
    for (size_t which = 0; which < images_.size(); ++which) {
        if (!piece.read[which])
            continue;
        if (!buffers[which])
            buffers[which] = Buffer(static_cast<size_t>(options_.piece));
        reads.spawn(co_read(which, piece, buffers[which], ret[which]));
    }
    co_await reads.join();
    for (size_t which = 0; which < images_.size(); ++which)
        if (ret[which] < 0) {
            auto failed = fail_errno(-ret[which], "Error while reading offset {} of {}", piece.offset, names_[which]);
            piece.error = std::move(failed.error());
            co_return;
        }
    const bool both = piece.read[0] && piece.read[1];
    const std::byte* one = buffers[piece.read[0] ? 0 : 1].data();
    const std::byte* other = both ? buffers[1].data() : nullptr;
    auto equal = [=](int64_t at, int64_t bytes) {
        return both ? memcmp(one + at, other + at, static_cast<size_t>(bytes)) == 0 : is_zero(one + at, bytes);
    };
    if (equal(0, piece.bytes))
        co_return;
    int64_t at = 0;
    while (equal(at, sector_at(at, piece.bytes)))
        at += kSectorSize;
    piece.difference = {ImageDifference::Kind::Contents, piece.offset + at};
}

}  // namespace ashlar

#include "block/image_copy.h"

#include "block/copy_range.h"
#include "block/io_vector.h"
#include "util/buffer_pool.h"
#include "util/task_scope.h"
#include "util/timer.h"

#include <algorithm>
#include <cerrno>

namespace ashlar {

namespace {

constexpr int64_t kLookAhead = int64_t{1} << 30;  // of one question for the block status
constexpr int64_t kPatience = 100'000'000;        // ns without a look at whether it has been cancelled

constexpr int64_t round_up(int64_t value, int64_t unit) {
    return (value + unit - 1) / unit * unit;
}

bool is_zero(const std::byte* data, int64_t bytes) {
    iovec element{const_cast<std::byte*>(data), static_cast<size_t>(bytes)};
    return iov_is_zero(IoVector(element));
}

}  // namespace

int64_t ImageCopy::total_length(std::span<BlockBackend* const> sources) {
    int64_t total = 0;
    for (BlockBackend* image : sources) {
        const int64_t length = image->length();
        if (length < 0)
            return length;
        if (length > kMaxLength - kSectorSize - total)
            return -EFBIG;
        total += round_up(length, kSectorSize);
    }
    return total;
}

// The shortest of the source's own layers below the top one ends what lies below them all.
int64_t ImageCopy::own_end(const BlockDriverState& top) const {
    int64_t end = INT64_MAX;
    const BlockDriverState* layer = &top;
    for (unsigned i = 1; i < options_.own_layers && layer->cow_child(); ++i) {
        layer = &layer->cow_child()->node();
        end = std::min(end, std::max<int64_t>(layer->length(), 0));
    }
    return end;
}

ImageWorkers::Options ImageCopy::workers(const std::vector<BlockBackend*>& sources, BlockBackend& target,
                                         const ImageCopyOptions& options) {
    ImageWorkers::Options result{
        .images = sources, .coroutines = options.coroutines, .threads = options.threads, .busy = options.compressed};
    result.images.push_back(&target);
    return result;
}

ImageCopy::ImageCopy(std::vector<BlockBackend*> sources, BlockBackend& target, ImageCopyOptions options,
                     Progress& progress)
    : ImageWorkers(workers(sources, target, options)),
      target_(target),
      options_(std::move(options)),
      progress_(progress),
      offload_(options_.offload) {
    for (BlockBackend* image : sources) {
        const int64_t length = std::max<int64_t>(image->length(), 0);
        sources_.push_back({image, total_, length, image->root()->cow_child() != nullptr, own_end(*image->root())});
        total_ += round_up(length, kSectorSize);
    }
    // The target does not have to read what it is not given: its clusters are written whole, zeroes and all.
    const int64_t cluster = target.root()->driver().cluster_size();
    const int64_t unit = cluster > 0 ? std::max<int64_t>(target.root()->limits().pwrite_zeroes_alignment, 1) : 1;
    options_.piece = std::max({options_.piece, cluster, unit});
    zero_grain_ = std::max(options_.min_zeroes, unit);
    if (options_.compressed)
        zero_grain_ = std::max(zero_grain_, cluster);
    grain_ = options_.compressed ? std::max<int64_t>(cluster, kSectorSize) : std::max(unit, kSectorSize);
    // What is compressed takes its time, and memory: a piece is what one thread does.
    options_.piece = options_.compressed ? grain_ : round_up(options_.piece, grain_);
    if (options_.bytes_per_second > 0) {
        ThrottleConfig config;
        config.bytes.total.per_second = options_.bytes_per_second;
        throttle_.configure(config, now_ns());
    }
}

Task<Result<void>> ImageCopy::co_run() {
    progress_.add_work(static_cast<uint64_t>(total_));
    auto worked = co_await co_work();
    if (worked && !may_go_on())
        co_return std::unexpected(Error{.message = "the copy was interrupted", .code = ECANCELED});
    co_return worked;
}

Task<void> ImageCopy::co_worker() {
    Buffer buffer;
    Piece piece;
    while (co_await co_next(piece)) {
        bool to_write = piece.kind != Kind::Backing;
        if (piece.kind == Kind::Data && offload_)
            to_write = !co_await co_offload(piece);
        if (piece.kind == Kind::Data && to_write) {
            if (buffer.size() < static_cast<size_t>(piece.bytes))
                buffer = Buffer(static_cast<size_t>(std::min(options_.piece, total_)));
            if (auto read = co_await co_read(piece, buffer.data()); !read)
                fail_with(std::move(read.error()));
        }
        if (!options_.out_of_order)
            co_await co_await_turn(piece.ticket);
        if (to_write && may_go_on())
            co_await co_write(piece, buffer.data());
        else
            pass(piece);  // what there was to do counts as begun when that before it has
        if (may_go_on())
            progress_.add_done(static_cast<uint64_t>(piece.bytes));
    }
}

ImageCopy::Source& ImageCopy::source_at(int64_t offset) {
    auto after = std::ranges::upper_bound(sources_, offset, {}, &Source::start);
    return *std::prev(after);
}

// What is at `offset`, and on from there.
Task<Result<void>> ImageCopy::co_look(int64_t offset) {
    if (known_.contains(offset))
        co_return {};
    Source& source = source_at(offset);
    const int64_t at = offset - source.start;
    if (at >= source.length) {  // behind its end, in its last sector
        known_ = {offset, source.start + round_up(source.length, kSectorSize), Kind::Zero};
        co_return {};
    }
    const BlockStatus status =
        co_await source.image->co_block_status_above(at, std::min(source.length - at, kLookAhead));
    if (status.ret < 0 || status.bytes <= 0) {
        if (!options_.salvage)
            co_return fail_errno(status.ret < 0 ? -status.ret : EIO, "error while reading block status at offset {}",
                                 offset);
        known_ = {offset, offset + std::min(source.length - at, kSectorSize), Kind::Data};
        co_return {};
    }
    Kind kind = status.has(BlockStatus::Zero) ? Kind::Zero : Kind::Data;
    int64_t bytes = status.bytes;
    // What comes from a layer further down, or from none of several.
    if (options_.own_layers > 0 && source.has_backing && (status.depth == 0 || status.depth > options_.own_layers)) {
        if (at < source.own_end) {
            kind = Kind::Backing;
            bytes = std::min(bytes, source.own_end - at);
        } else {
            kind = Kind::Zero;
        }
    }
    known_ = {offset, offset + bytes, kind};
    co_return {};
}

Task<bool> ImageCopy::co_next(Piece& piece) {
    CoMutex::Guard guard = co_await cursor_lock_.co_lock();
    if (!may_go_on() || cursor_ >= total_)
        co_return false;
    piece.offset = cursor_;
    piece.kind = Kind::Data;
    int64_t end = std::min(total_, cursor_ + options_.piece);
    if (options_.min_zeroes > 0) {
        if (auto looked = co_await co_look(cursor_); !looked) {
            fail_with(std::move(looked.error()));
            co_return false;
        }
        const bool whole = known_.end >= total_ || known_.end - cursor_ >= grain_;
        if (known_.kind != Kind::Data && whole) {
            piece.kind = known_.kind;
            end = known_.end >= total_ ? total_ : known_.end / grain_ * grain_;
            end = std::min(end, cursor_ + kLookAhead);
        } else if (known_.kind == Kind::Data) {
            end = std::min(end, round_up(known_.end, grain_));
        } else {  // too short to be left out: some of the grain may be data
            end = std::min(end, cursor_ + grain_);
        }
        end = std::min(end, total_);
        // In a grain that begins as nothing of the top layer's and goes on otherwise, all is copied.
    }
    piece.bytes = end - piece.offset;
    piece.ticket = tickets_++;
    cursor_ = end;
    if (options_.bytes_per_second > 0 && piece.kind == Kind::Data)
        co_await co_limit_rate(piece.bytes);
    co_return true;
}

Task<void> ImageCopy::co_limit_rate(int64_t bytes) {
    for (;;) {
        const int64_t wait = throttle_.wait_ns(true, now_ns());
        if (wait <= 0 || !may_go_on())
            break;
        co_await co_sleep(std::min(wait, kPatience));
    }
    throttle_.account(true, bytes);
}

// Splits a piece that several sources share.
Task<Result<void>> ImageCopy::co_read(const Piece& piece, std::byte* data) {
    for (int64_t at = piece.offset; at < piece.end() && may_go_on();) {
        Source& source = source_at(at);
        const int64_t end = std::min(piece.end(), source.start + round_up(source.length, kSectorSize));
        const int64_t from = at - source.start;
        const int64_t there = std::clamp<int64_t>(source.length - from, 0, end - at);
        std::byte* to = data + (at - piece.offset);
        if (there > 0)
            if (int ret = co_await co_read_part(source, from, there, to); ret < 0)
                co_return fail_errno(-ret, "error while reading at byte {}", at);
        std::fill(to + there, to + (end - at), std::byte{0});
        at = end;
    }
    co_return {};
}

Task<int> ImageCopy::co_read_part(Source& source, int64_t offset, int64_t bytes, std::byte* data) {
    iovec element{data, static_cast<size_t>(bytes)};
    int ret = co_await source.image->co_preadv(offset, bytes, IoVector(element));
    if (ret >= 0 || !options_.salvage)
        co_return ret;
    if (bytes <= kSectorSize) {
        if (options_.unreadable)
            options_.unreadable(source.start + offset, -ret);
        std::fill_n(data, bytes, std::byte{0});
        co_return 0;
    }
    const int64_t half = round_up(bytes / 2, kSectorSize);
    co_await co_read_part(source, offset, half, data);
    co_await co_read_part(source, offset + half, bytes - half, data + half);
    co_return 0;
}

void ImageCopy::pass(const Piece& piece) {
    if (!options_.out_of_order)
        pass_turn(piece.ticket);
}

// In its turn, which it passes when the writes have begun.
Task<void> ImageCopy::co_write(const Piece& piece, const std::byte* data) {
    TaskScope writes;
    if (piece.kind == Kind::Zero) {
        writes.spawn(co_write_zeroes(piece.offset, piece.bytes));
    } else if (options_.min_zeroes == 0) {
        writes.spawn(co_write_data(piece.offset, piece.bytes, data));
    } else {
        // Stretches that are all zeroes, and those that are not.
        for (int64_t at = 0; at < piece.bytes;) {
            int64_t end = at;
            std::optional<bool> zero;
            while (end < piece.bytes) {
                const int64_t next = std::min(
                    (piece.offset + end) / zero_grain_ * zero_grain_ + zero_grain_ - piece.offset, piece.bytes);
                const bool this_zero = is_zero(data + end, next - end);
                if (zero && *zero != this_zero)
                    break;
                zero = this_zero;
                end = next;
            }
            if (*zero)
                writes.spawn(co_write_zeroes(piece.offset + at, end - at));
            else
                writes.spawn(co_write_data(piece.offset + at, end - at, data + at));
            at = end;
        }
    }
    pass(piece);
    co_await writes.join();
}

Task<void> ImageCopy::co_write_data(int64_t offset, int64_t bytes, const std::byte* data) {
    iovec element{const_cast<std::byte*>(data), static_cast<size_t>(bytes)};
    const RequestFlags flags = options_.compressed ? RequestFlags::Compressed : RequestFlags::None;
    int ret = co_await target_.co_pwritev(offset, bytes, IoVector(element), flags);
    if (ret < 0) {
        auto failed = fail_errno(-ret, "error while writing at byte {}", offset);
        fail_with(std::move(failed.error()));
    }
}

Task<void> ImageCopy::co_write_zeroes(int64_t offset, int64_t bytes) {
    if (offset >= options_.target_zero_from)
        co_return;
    bytes = std::min(bytes, options_.target_zero_from - offset);
    int ret = co_await target_.co_pwrite_zeroes(offset, bytes, RequestFlags::MayUnmap);
    if (ret < 0) {
        auto failed = fail_errno(-ret, "error while writing at byte {}", offset);
        fail_with(std::move(failed.error()));
    }
}

Task<bool> ImageCopy::co_offload(const Piece& piece) {
    Source& source = source_at(piece.offset);
    const int64_t from = piece.offset - source.start;
    if (from + piece.bytes > source.length)
        co_return false;
    int ret = co_await co_copy_range(*source.image, from, target_, piece.offset, piece.bytes);
    if (ret == -ENOTSUP)
        offload_ = false;  // and nothing more is tried
    co_return ret == 0;
}

}  // namespace ashlar

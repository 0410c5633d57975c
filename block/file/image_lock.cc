#include "block/file/image_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <optional>

#include "block/file/lock_holder.h"
#include "block/file/reopen_fd.h"

namespace ashlar {

namespace {

constexpr int64_t kUsedBase = 100;
constexpr int64_t kUnsharedBase = 200;
constexpr unsigned kUnsharedShift = 8;
constexpr unsigned kPermissions = std::popcount(static_cast<unsigned>(BlockPerm::All));
constexpr std::string_view kNames[kPermissions] = {"consistent read", "write", "write unchanged", "resize"};

int64_t byte_of(unsigned bit) {
    return bit < kUnsharedShift ? kUsedBase + bit : kUnsharedBase + (bit - kUnsharedShift);
}

int lock_byte(int fd, int command, short type, int64_t byte, struct flock* result = nullptr) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    int ret;
    do
        ret = fcntl(fd, command, &lock);
    while (ret < 0 && errno == EINTR);
    if (result)
        *result = lock;
    return ret < 0 ? errno : 0;
}

}  // namespace

Result<ImageLock> ImageLock::create(int fd, std::string filename, LockingMode mode) {
    ImageLock lock;
    lock.filename_ = std::move(filename);
    if (mode == LockingMode::Off)
        return lock;
    auto own = reopen_fd(fd, lock.filename_, O_RDONLY);
    int error = own ? lock_byte(own->get(), F_OFD_GETLK, F_WRLCK, kUsedBase) : own.error().code;
    if (error == 0)
        lock.fd_ = std::move(*own);
    else if (mode == LockingMode::On)
        return fail_errno(error, "{}: locking=on was given, but the file cannot be locked", lock.filename_);
    return lock;
}

Result<> ImageLock::prepare(BlockPerm perm, BlockPerm shared) {
    before_ = held_;
    wanted_ = static_cast<ByteSet>(static_cast<unsigned>(perm) | static_cast<unsigned>(~shared) << kUnsharedShift);
    if (!fd_)
        return {};
    auto taken = take(wanted_ & ~held_);
    if (taken)
        taken = check(perm, shared);
    if (!taken)
        abort();
    return taken;
}

void ImageLock::commit() {
    if (fd_)
        release(held_ & ~wanted_);
}

void ImageLock::abort() {
    if (fd_)
        release(held_ & ~before_);
}

Result<> ImageLock::take(ByteSet bytes) {
    for (unsigned bits = bytes; bits; bits &= bits - 1) {
        unsigned bit = static_cast<unsigned>(std::countr_zero(bits));
        if (int error = lock_byte(fd_.get(), F_OFD_SETLK, F_RDLCK, byte_of(bit)))
            return fail_errno(error, "{}: Failed to lock byte {}", filename_, byte_of(bit));
        held_ |= static_cast<ByteSet>(1u << bit);
    }
    return {};
}

void ImageLock::release(ByteSet bytes) {
    for (unsigned bits = bytes; bits; bits &= bits - 1)
        lock_byte(fd_.get(), F_OFD_SETLK, F_UNLCK, byte_of(static_cast<unsigned>(std::countr_zero(bits))));
    held_ &= static_cast<ByteSet>(~bytes);
}

Result<> ImageLock::check(BlockPerm perm, BlockPerm shared) const {
    for (unsigned n = 0; n < kPermissions; ++n) {
        auto bit = static_cast<BlockPerm>(1u << n);
        if (has(perm, bit))
            if (auto free = check_byte(kUnsharedBase + n, fmt::format("\"{}\"", kNames[n])); !free)
                return free;
        if (!has(shared, bit))
            if (auto free = check_byte(kUsedBase + n, fmt::format("shared \"{}\"", kNames[n])); !free)
                return free;
    }
    return {};
}

// `permission` as the message has it: a byte that nobody else may have locked.
Result<> ImageLock::check_byte(int64_t byte, std::string_view permission) const {
    struct flock found;
    if (int error = lock_byte(fd_.get(), F_OFD_GETLK, F_WRLCK, byte, &found))
        return fail_errno(error, "{}: Failed to get {} lock", filename_, permission);
    if (found.l_type == F_UNLCK)
        return {};
    std::optional<LockHolder> holder;
    if (found.l_pid > 0)
        holder = lock_holder_of(found.l_pid);
    else
        holder = find_lock_holder(fd_.get(), byte);
    Error error{.message = fmt::format("{}: Failed to get {} lock{}", filename_, permission,
                                       holder ? ": held by " + holder->describe() : "")};
    if (holder && holder->pid == getpid())
        return std::unexpected(
            std::move(error).with_hint("It is open here already, as another image or as a part of one."));
    return std::unexpected(
        std::move(error).with_hint(fmt::format("Is another process using the image [{}]?\n"
                                               "Open it read-only, or share it with locking=off if you know that "
                                               "nobody writes.",
                                               filename_)));
}

}  // namespace ashlar

// ImageLock: the locks by which QEMU's and our processes keep out of each other's images.
//
// A user of an image holds read locks (of its open file description) on single bytes of the file: 100 + n for the
// permission n that it uses, 200 + n for the permission n that it does not let others use; n is the bit's number in
// BlockPerm. Before it relies on a permission it looks whether anybody else holds the byte that speaks against it.
// The bytes need not exist. (Observed with /proc/locks; docs/block.md, "Image locking".)
//
// Changes are transactions: prepare() takes what is new and fails without a change when somebody is in the way, then
// either commit() gives up what is no longer wanted, or abort() what prepare() took. Main context.
#pragma once

#include <cstdint>
#include <string>

#include "block/block_types.h"
#include "util/enum_names.h"
#include "util/error.h"
#include "util/unique_fd.h"

namespace ashlar {

enum class LockingMode : uint8_t { Auto, On, Off };
constexpr auto enum_names(LockingMode) {
    return std::to_array<EnumName<LockingMode>>(
        {{LockingMode::Auto, "auto"}, {LockingMode::On, "on"}, {LockingMode::Off, "off"}});
}

class ImageLock {
public:
    ImageLock() = default;  // locks nothing

    // For the file that `fd` is open on; `filename` is what messages call it. Auto does without locks where the file
    // system has none; On fails there.
    static Result<ImageLock> create(int fd, std::string filename, LockingMode mode);

    Result<> prepare(BlockPerm perm, BlockPerm shared);
    void commit();
    void abort();

private:
    // Bit n: byte 100 + n; bit 8 + n: byte 200 + n.
    using ByteSet = uint16_t;
    Result<> take(ByteSet bytes);
    Result<> check(BlockPerm perm, BlockPerm shared) const;
    Result<> check_byte(int64_t byte, std::string_view permission) const;
    void release(ByteSet bytes);

    UniqueFd fd_;  // a description of its own: survives a reopening of the data's
    std::string filename_;
    ByteSet held_ = 0;
    ByteSet wanted_ = 0;  // between prepare() and commit() or abort()
    ByteSet before_ = 0;
};

}  // namespace ashlar

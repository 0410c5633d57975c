// IoProgress: the part of an IoVector that is still to be transferred, after short reads or writes.
#pragma once

#include <vector>

#include "block/block_types.h"

namespace ashlar {

class IoProgress {
public:
    explicit IoProgress(IoVector iov) : rest_(iov.iov, iov.iov + iov.count) {}

    void advance(size_t bytes);
    void fill_zero();  // the whole rest
    IoVector rest() const { return {rest_.data() + first_, static_cast<unsigned>(rest_.size() - first_)}; }

private:
    std::vector<iovec> rest_;
    size_t first_ = 0;
};

}  // namespace ashlar

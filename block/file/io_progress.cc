#include "block/file/io_progress.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

void IoProgress::advance(size_t bytes) {
    while (bytes > 0) {
        iovec& element = rest_[first_];
        size_t n = std::min(bytes, element.iov_len);
        element.iov_base = static_cast<char*>(element.iov_base) + n;
        element.iov_len -= n;
        bytes -= n;
        if (element.iov_len == 0)
            first_++;
    }
}

void IoProgress::fill_zero() {
    for (const iovec& element : rest().elements())
        memset(element.iov_base, 0, element.iov_len);
}

}  // namespace ashlar

// What of a file is in the page cache.
#pragma once

#include <cstdint>

namespace ashlar {

// Whether these bytes (at least one, before the end of the file) can be read without waiting for the disk, as far as
// can be told without reading them. False where the kernel (before Linux 6.5) or the file's owner does not let us know.
bool is_in_page_cache(int fd, int64_t offset, int64_t bytes);

}  // namespace ashlar

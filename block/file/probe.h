// What the kernel tells about an open file: alignment of O_DIRECT, size, kind of disk. Blocking calls; any thread.
#pragma once

#include <cstdint>

#include "util/error.h"

namespace ashlar {

struct DirectAlignment {
    uint32_t request = 0;  // of offset and length
    uint32_t memory = 0;   // of the buffer's address
};

// `fd` is open with O_DIRECT. Asks statx, then the device, then tries reads; fails when nothing of that works.
Result<DirectAlignment> probe_direct_alignment(int fd, const char* filename);

int64_t file_length(int fd);         // of a regular file or a block device; negative errno
bool is_on_rotational_disk(int fd);  // the device itself, or the one that the file system is on
int device_sector_size(int fd);      // logical; 0 when it is unknown

}  // namespace ashlar

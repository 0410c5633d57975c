// The raw driver: the disk is the file's bytes, or `size` of them from `offset` on.
#pragma once

#include "block/block_driver.h"

namespace ashlar {

extern const DriverType kRawDriver;

}  // namespace ashlar

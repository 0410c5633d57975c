// For a driver's co_open() that has to write to its file before the node exists: to repair it.
#pragma once

#include "block/bdrv_child.h"
#include "util/error.h"

namespace ashlar {

// Takes the permissions of a writable format on its own child, with nobody else writing. The driver is asked for them,
// as ever, when it is open.
Result<void> acquire_write_access(BdrvChild& child);

}  // namespace ashlar

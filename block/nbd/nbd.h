// The driver `nbd`: a disk that an NBD server exports. QEMU's options and file names (block/nbd/options.h), and
// `connections`, for how many are used at a time. See include/nbd/client_session.h for what happens on the wire.
#pragma once

#include "block/block_driver.h"

namespace ashlar {

extern const DriverType kNbdDriver;

}  // namespace ashlar

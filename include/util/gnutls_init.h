// GnuTLS is initialised when something of it is first used: the programs skip what its constructor would do at every
// start (tools/prepare_process.cc), which is most of the time that `--version` takes, and 2 MB of memory.
#pragma once

#include "util/error.h"

namespace ashlar {

// Before any other call of GnuTLS; any thread, any number of times.
Result<void> init_gnutls();

}  // namespace ashlar

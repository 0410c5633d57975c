// ashlar-nbd -L: what another server exports, printed as qemu-nbd prints it.
#pragma once

#include "nbd/client.h"

#include <string>
#include <vector>

namespace ashlar {

std::string format_export_list(const std::vector<nbd::ExportDetails>& exports);

// Connects, asks and prints to standard output.
[[nodiscard]] Task<Result<void>> co_print_exports(SocketAddress address);

}  // namespace ashlar

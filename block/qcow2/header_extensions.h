// The extensions behind a qcow2 header: the part of header.h that deals with them.
#pragma once

#include "block/qcow2/header.h"

namespace ashlar::qcow2 {

// Fills in what `area`, from the end of the header on, holds.
Result<void> read_extensions(std::span<const std::byte> area, Header& header);

void append_extensions(const Header& header, std::vector<std::byte>& out);

}  // namespace ashlar::qcow2

// Compressing and decompressing one cluster, as qcow2 has it: raw deflate or zstd. Pure functions that take their time:
// call them in a thread.
#pragma once

#include "block/qcow2/format.h"

#include <cstddef>
#include <span>

namespace ashlar::qcow2 {

// Fills `out`, a whole cluster, from `in`, which may be longer than the compressed data. False if it does not.
bool decompress(Compression type, std::span<const std::byte> in, std::span<std::byte> out);

// Into `out`; 0 if that is too small.
size_t compress(Compression type, std::span<const std::byte> in, std::span<std::byte> out);

}  // namespace ashlar::qcow2

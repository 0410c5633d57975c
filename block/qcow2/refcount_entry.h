// Reference counts of 1 to 64 bits as they are packed in a refcount block. Pure functions, for any bytes.
#pragma once

#include "util/byte_order.h"

#include <cstddef>
#include <cstdint>

namespace ashlar::qcow2 {

[[nodiscard]] inline uint64_t get_refcount(const std::byte* block, uint64_t index, unsigned order) {
    switch (order) {
        case 3:
            return load_be<uint8_t>(block + index);
        case 4:
            return load_be<uint16_t>(block + index * 2);
        case 5:
            return load_be<uint32_t>(block + index * 4);
        case 6:
            return load_be<uint64_t>(block + index * 8);
        default: {  // 1, 2 or 4 bits: the first is the least significant
            uint64_t bit = index << order;
            auto byte = std::to_integer<unsigned>(block[bit / 8]);
            return byte >> (bit % 8) & ((1u << (1u << order)) - 1);
        }
    }
}

inline void set_refcount(std::byte* block, uint64_t index, unsigned order, uint64_t value) {  // value: it fits
    switch (order) {
        case 3:
            return store_be<uint8_t>(block + index, static_cast<uint8_t>(value));
        case 4:
            return store_be<uint16_t>(block + index * 2, static_cast<uint16_t>(value));
        case 5:
            return store_be<uint32_t>(block + index * 4, static_cast<uint32_t>(value));
        case 6:
            return store_be<uint64_t>(block + index * 8, value);
        default: {
            uint64_t bit = index << order;
            unsigned mask = ((1u << (1u << order)) - 1) << (bit % 8);
            auto byte = std::to_integer<unsigned>(block[bit / 8]);
            block[bit / 8] = static_cast<std::byte>((byte & ~mask) | (static_cast<unsigned>(value) << (bit % 8)));
        }
    }
}

}  // namespace ashlar::qcow2

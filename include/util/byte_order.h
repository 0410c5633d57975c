// Integers in a byte stream: big-endian and little-endian loads and stores at any alignment.
//
// Pure functions; the caller guarantees sizeof(T) readable or writable bytes.
#pragma once

#include <bit>
#include <concepts>
#include <cstring>

namespace ashlar {

namespace detail {

template <std::endian order, std::unsigned_integral T>
[[nodiscard]] T in_order(T value) {
    if constexpr (order == std::endian::native || sizeof(T) == 1)
        return value;
    else
        return std::byteswap(value);
}

template <std::endian order, std::unsigned_integral T>
[[nodiscard]] T load(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return in_order<order>(value);
}

template <std::endian order, std::unsigned_integral T>
void store(void* to, T value) {
    value = in_order<order>(value);
    std::memcpy(to, &value, sizeof value);
}

}  // namespace detail

template <std::unsigned_integral T>
[[nodiscard]] T load_be(const void* from) {
    return detail::load<std::endian::big, T>(from);
}

template <std::unsigned_integral T>
[[nodiscard]] T load_le(const void* from) {
    return detail::load<std::endian::little, T>(from);
}

template <std::unsigned_integral T>
void store_be(void* to, std::type_identity_t<T> value) {
    detail::store<std::endian::big, T>(to, value);
}

template <std::unsigned_integral T>
void store_le(void* to, std::type_identity_t<T> value) {
    detail::store<std::endian::little, T>(to, value);
}

}  // namespace ashlar

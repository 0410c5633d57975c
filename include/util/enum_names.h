// The names of an enum's values, given once beside the enum and used by options, QMP and messages alike:
//
//     enum class Discard : uint8_t { Ignore, Unmap };
//     constexpr auto enum_names(Discard) {
//         return std::to_array<EnumName<Discard>>({
//             {Discard::Ignore, "ignore"}, {Discard::Ignore, "off"}, {Discard::Unmap, "unmap"}, {Discard::Unmap,
//             "on"}});
//     }
//
// The first name of a value is the one that is printed; the others are accepted as well.
#pragma once

#include <array>
#include <concepts>
#include <optional>
#include <string_view>
#include <type_traits>

namespace ashlar {

template <class E>
struct EnumName {
    E value;
    std::string_view name;
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
    { enum_names(e)[0] } -> std::convertible_to<EnumName<E>>;
};

template <NamedEnum E>
constexpr std::string_view enum_name(E value) {
    for (const auto& entry : enum_names(E{}))
        if (entry.value == value)
            return entry.name;
    return "?";
}

template <NamedEnum E>
constexpr std::optional<E> parse_enum(std::string_view name) {
    for (const auto& entry : enum_names(E{}))
        if (entry.name == name)
            return entry.value;
    return std::nullopt;
}

}  // namespace ashlar

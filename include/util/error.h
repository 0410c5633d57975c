// Error and Result: how opening, configuring and negotiating fail.
//
// An Error says which object, option or field is wrong and why, in one line that starts with the object; `hint` is an
// optional second line that says what to do. It is a value: any thread may build, move and copy one. The data path does
// not use it: there a failure is a negative errno in an int.
#pragma once

#include <fmt/core.h>

#include <cstring>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace ashlar {

// The error classes of QMP (qmp-spec.rst, "Error"); everything but QMP's own dispatcher uses Generic.
enum class ErrorClass : unsigned char { Generic, CommandNotFound, DeviceNotActive, DeviceNotFound, KVMMissingCap };

struct Error {
    std::string message;
    std::string hint;
    int code = 0;  // a positive errno where one is the cause, else 0
    ErrorClass error_class = ErrorClass::Generic;

    // Puts `what: ` in front: `Error::prefixed("disk.img")` makes "no such file" into "disk.img: no such file".
    [[nodiscard]] Error prefixed(std::string_view what) && {
        message.insert(0, fmt::format("{}: ", what));
        return std::move(*this);
    }
    [[nodiscard]] Error with_hint(std::string text) && {
        hint = std::move(text);
        return std::move(*this);
    }
    [[nodiscard]] Error with_class(ErrorClass c) && {
        error_class = c;
        return std::move(*this);
    }
};

template <class T = void>
using Result = std::expected<T, Error>;

// std::unexpected with a formatted message: `return fail("{}: unknown option '{}'", file, key);`
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(fmt::format_string<Args...> format, Args&&... args) {
    return std::unexpected(Error{fmt::format(format, std::forward<Args>(args)...), {}, 0, ErrorClass::Generic});
}

// The same with ": strerror(code)" behind the message; `code` is a positive errno.
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format, Args&&... args) {
    std::string text = fmt::format(format, std::forward<Args>(args)...);
    text += ": ";
    text += std::strerror(code);
    return std::unexpected(Error{std::move(text), {}, code, ErrorClass::Generic});
}

}  // namespace ashlar

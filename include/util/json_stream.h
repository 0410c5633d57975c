// JsonStream: finds JSON values in a stream of bytes that has no framing, as QMP clients send them.
//
// Values follow each other with white space or nothing between them and may be cut anywhere. next() returns them in
// order, and in their place the errors of what is not JSON. After an error the stream goes on, so that one bad line
// does not lose the connection:
//  - a control character (a newline inside a string too) or a byte that UTF-8 never has, such as the 0xFF with which
//    clients resynchronise (qmp-spec, "Forcing the JSON parser into known-good state"), drops the value it is in;
//  - stray text, mismatched brackets and exceeded limits drop what was read and what follows up to the end of the line
//    or the next '{' or '['.
//
// A pure function of the bytes, however they are cut. Memory is bounded by the limits and the size of one feed().
#pragma once

#include "util/error.h"
#include "util/json_fwd.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ashlar {

struct JsonStreamLimits {
    size_t bytes = size_t{64} << 20;    // of one value's text
    size_t elements = size_t{2} << 20;  // members and elements in one value, which bounds the memory that it parses to
};

class JsonStream {
public:
    using Limits = JsonStreamLimits;

    explicit JsonStream(Limits limits = {}) : limits_(limits) {}

    void feed(std::string_view bytes);
    // The next value or error, or nullopt when more bytes are needed.
    std::optional<Result<Json>> next();

private:
    enum class State : uint8_t { Idle, Word, Container, String, Escape, Recover };

    std::optional<Error> punctuation(unsigned char c);
    std::optional<Result<Json>> finish(size_t end);
    std::unexpected<Error> drop(State next, Error why);

    Limits limits_;
    State state_ = State::Idle;
    char quote_ = 0;
    std::string open_;  // the closing brackets that are due, the innermost last
    size_t elements_ = 0;
    std::string buffer_;
    size_t start_ = 0;  // of the value being read
    size_t pos_ = 0;    // of the first byte not looked at yet
};

}  // namespace ashlar

#include "util/json_stream.h"

#include "util/json.h"

namespace ashlar {

namespace {

bool is_white_space(unsigned char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Bytes that neither JSON nor UTF-8 ever has.
bool is_never_valid(unsigned char c) {
    return (c < 0x20 && !is_white_space(c)) || c == 0xc0 || c == 0xc1 || c >= 0xf5;
}

bool starts_word(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

bool continues_word(unsigned char c) {
    return starts_word(c) || c == '+' || c == '.' || c == '_';
}

}  // namespace

void JsonStream::feed(std::string_view bytes) {
    buffer_.erase(0, start_);
    pos_ -= start_;
    start_ = 0;
    buffer_.append(bytes);
}

std::optional<Result<Json>> JsonStream::finish(size_t end) {
    auto value = parse_json(std::string_view(buffer_).substr(start_, end - start_));
    start_ = pos_ = end;
    state_ = State::Idle;
    elements_ = 0;
    return value;
}

// Forgets the bytes up to and including the one at pos_.
std::unexpected<Error> JsonStream::drop(State next, Error why) {
    start_ = ++pos_;
    state_ = next;
    open_.clear();
    elements_ = 0;
    return std::unexpected(std::move(why));
}

std::optional<Result<Json>> JsonStream::next() {
    for (; pos_ < buffer_.size(); ++pos_) {
        unsigned char c = static_cast<unsigned char>(buffer_[pos_]);
        if (is_never_valid(c))
            return drop(State::Idle, Error{fmt::format("JSON parse error: stray byte 0x{:02x}", c)});
        if (state_ == State::Recover) {
            start_ = pos_ + 1;
            if (c == '\n')
                state_ = State::Idle;
            if (c != '{' && c != '[')
                continue;
            state_ = State::Idle;
        }
        if (state_ == State::Idle) {
            start_ = pos_;
            if (is_white_space(c)) {
                ++start_;
                continue;
            }
            if (starts_word(c)) {
                state_ = State::Word;
                continue;
            }
            if (c != '{' && c != '[' && c != '"' && c != '\'') {
                std::string shown = c < 0x7f ? fmt::format("'{}'", buffer_[pos_]) : fmt::format("byte 0x{:02x}", c);
                return drop(State::Recover, Error{fmt::format("JSON parse error: stray {}", shown)});
            }
            state_ = State::Container;
        }
        if (pos_ - start_ >= limits_.bytes)
            return drop(State::Recover,
                        Error{fmt::format("JSON parse error: a value exceeds the limit of {} bytes", limits_.bytes)});

        switch (state_) {
            case State::Word:
                if (!continues_word(c))
                    return finish(pos_);
                break;
            case State::String:
            case State::Escape:
                if (c == '\n')
                    return drop(State::Idle, Error{"JSON parse error: newline in a string"});
                if (state_ == State::Escape) {
                    state_ = State::String;
                } else if (c == '\\') {
                    state_ = State::Escape;
                } else if (c == static_cast<unsigned char>(quote_)) {
                    state_ = State::Container;
                    if (open_.empty())
                        return finish(pos_ + 1);
                }
                break;
            default:
                if (auto error = punctuation(c))
                    return drop(State::Recover, std::move(*error));
                if (state_ == State::Container && open_.empty())
                    return finish(pos_ + 1);
        }
    }
    return std::nullopt;
}

// One byte outside of strings and of words at the top level.
std::optional<Error> JsonStream::punctuation(unsigned char c) {
    switch (c) {
        case '"':
        case '\'':
            quote_ = static_cast<char>(c);
            state_ = State::String;
            break;
        case '{':
        case '[':
            if (open_.size() == kJsonMaxNesting)
                return Error{fmt::format("JSON parse error: nesting exceeds the limit of {} levels", kJsonMaxNesting)};
            open_ += c == '{' ? '}' : ']';
            break;
        case '}':
        case ']':
            if (open_.back() != c)
                return Error{
                    fmt::format("JSON parse error: '{}' where '{}' is due", static_cast<char>(c), open_.back())};
            open_.pop_back();
            break;
        case ',':
            if (++elements_ == limits_.elements)
                return Error{
                    fmt::format("JSON parse error: a value exceeds the limit of {} elements", limits_.elements)};
            break;
        default:
            break;
    }
    return std::nullopt;
}

}  // namespace ashlar

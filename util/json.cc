#include "util/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace ashlar {

namespace {

// Copies `in` to *out (which may be null) with single-quoted strings in double quotes. Returns the offset in `in` of
// the byte that became byte `stop_at` of the output, for error messages.
size_t normalise_quotes(std::string_view in, std::string* out, size_t stop_at = std::numeric_limits<size_t>::max()) {
    char quote = 0;
    size_t written = 0;
    for (size_t i = 0; i < in.size(); ++i) {
        std::string_view replacement = in.substr(i, 1);
        size_t at = i;
        if (!quote) {
            if (in[i] == '"' || in[i] == '\'') {
                quote = in[i];
                replacement = "\"";
            }
        } else if (in[i] == quote) {
            quote = 0;
            replacement = "\"";
        } else if (in[i] == '\\' && i + 1 < in.size()) {
            replacement = in[i + 1] == '\'' ? "'" : in.substr(i, 2);
            ++i;
        } else if (in[i] == '"') {
            replacement = "\\\"";
        }
        written += replacement.size();
        if (written >= stop_at)
            return at;
        if (out)
            out->append(replacement);
    }
    return in.size();
}

// Builds the value from the parser's events. The parser itself does not recurse.
class Builder {
public:
    using number_integer_t = Json::number_integer_t;
    using number_unsigned_t = Json::number_unsigned_t;
    using number_float_t = Json::number_float_t;
    using string_t = Json::string_t;
    using binary_t = Json::binary_t;

    bool null() { return put(nullptr); }
    bool boolean(bool v) { return put(v); }
    bool number_integer(number_integer_t v) { return put(v); }
    bool number_unsigned(number_unsigned_t v) { return put(v); }
    bool number_float(number_float_t v, const string_t&) { return put(v); }
    bool binary(binary_t&) { return false; }
    bool string(string_t& v) { return check_string(v) && put(std::move(v)); }

    bool start_object(size_t) { return enter(Json::object()); }
    bool start_array(size_t) { return enter(Json::array()); }
    bool key(string_t& name) {
        // Straight into the vector that ordered_map is: its own emplace() looks for the key first, which makes a large
        // object quadratic. end_object() looks for duplicates instead.
        auto& members = static_cast<Json::object_t::Container&>(open_.back()->get_ref<Json::object_t&>());
        members.emplace_back(std::move(name), nullptr);
        slot_ = &members.back().second;
        return check_string(members.back().first);
    }
    bool end_object() {
        const auto& members = open_.back()->get_ref<Json::object_t&>();
        std::vector<std::string_view> names;
        names.reserve(members.size());
        for (const auto& [name, value] : members)
            names.push_back(name);
        std::sort(names.begin(), names.end());
        if (auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
            error_ = fmt::format("JSON parse error: duplicate key '{}'", *twice);
            return false;
        }
        return end_array();
    }
    bool end_array() {
        open_.pop_back();
        return true;
    }

    bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) {
        // what() is "[json.exception...] parse error at line 1, column 2: syntax error ...; last read: '...'": what is
        // before the reason is ours to say, and what was read may be long and not UTF-8.
        std::string_view reason = e.what();
        if (auto start = reason.find(", column "); start != reason.npos)
            reason.remove_prefix(std::min(reason.find(": ", start) + 2, reason.size()));
        else
            reason = "number out of range";
        reason = reason.substr(0, reason.find("; last read: "));
        offset_ = position ? position - 1 : 0;
        error_ = reason;
        return false;
    }

    // After a failure: the message, which lacks its offset when offset() says where.
    std::string& error() { return error_; }
    std::optional<size_t> offset() const { return offset_; }
    Json& root() { return root_; }

private:
    bool put(Json value) {
        place(std::move(value));
        return true;
    }
    Json* place(Json value) {
        if (open_.empty())
            return &(root_ = std::move(value));
        if (open_.back()->is_object())
            return &(*slot_ = std::move(value));
        auto& elements = open_.back()->get_ref<Json::array_t&>();
        elements.push_back(std::move(value));
        return &elements.back();
    }
    bool enter(Json container) {
        if (open_.size() == kJsonMaxNesting) {
            error_ = fmt::format("JSON parse error: nesting exceeds the limit of {} levels", kJsonMaxNesting);
            return false;
        }
        open_.push_back(place(std::move(container)));
        return true;
    }
    bool check_string(const std::string& s) {
        if (s.find('\0') == s.npos)
            return true;
        error_ = "JSON parse error: \\u0000 in a string";
        return false;
    }

    Json root_;
    std::vector<Json*> open_;  // stays valid: a container does not grow while one of its elements is open
    Json* slot_ = nullptr;
    std::string error_;
    std::optional<size_t> offset_;
};

class Writer {
public:
    explicit Writer(bool pretty) : pretty_(pretty) {}

    void write(const Json& value) {
        switch (value.type()) {
            case Json::value_t::object:
                write_all('{', '}', value.get_ref<const Json::object_t&>(), [this](const auto& member) {
                    write(Json(member.first));
                    out_ += ": ";
                    write(member.second);
                });
                break;
            case Json::value_t::array:
                write_all('[', ']', value.get_ref<const Json::array_t&>(), [this](const Json& e) { write(e); });
                break;
            case Json::value_t::number_float:
                fmt::format_to(std::back_inserter(out_), "{:.17g}", value.get_ref<const double&>());
                break;
            default:
                out_ += value.dump(-1, ' ', true, Json::error_handler_t::replace);
        }
    }
    std::string take() { return std::move(out_); }

private:
    template <class Container, class Write>
    void write_all(char open, char close, const Container& elements, Write write_one) {
        out_ += open;
        ++level_;
        bool first = true;
        for (const auto& element : elements) {
            if (!first)
                out_ += pretty_ ? "," : ", ";
            first = false;
            new_line();
            write_one(element);
        }
        --level_;
        if (!first)
            new_line();
        out_ += close;
    }
    void new_line() {
        if (!pretty_)
            return;
        out_ += '\n';
        out_.append(4 * level_, ' ');
    }

    std::string out_;
    size_t level_ = 0;
    bool pretty_;
};

}  // namespace

Result<Json> parse_json(std::string_view text) {
    std::string normalised;
    bool rewritten = text.find('\'') != text.npos;
    if (rewritten)
        normalise_quotes(text, &normalised);
    std::string_view input = rewritten ? normalised : text;

    Builder builder;
    if (Json::sax_parse(input.begin(), input.end(), &builder))
        return std::move(builder.root());
    if (!builder.offset())
        return fail("{}", builder.error());
    size_t offset = rewritten ? normalise_quotes(text, nullptr, *builder.offset() + 1) : *builder.offset();
    return fail("JSON parse error at offset {}: {}", offset, builder.error());
}

Result<Json> parse_json_object(std::string_view text) {
    auto value = parse_json(text);
    if (value && !value->is_object())
        return fail("Expected a JSON object, not {}", json_type_name(*value));
    return value;
}

std::string dump_json(const Json& value) {
    Writer writer(false);
    writer.write(value);
    return writer.take();
}

std::string dump_json_pretty(const Json& value) {
    Writer writer(true);
    writer.write(value);
    return writer.take();
}

const Json* json_find(const Json& object, std::string_view key) {
    if (!object.is_object())
        return nullptr;
    auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
}

const std::string* json_string(const Json& value) {
    return value.get_ptr<const std::string*>();
}

std::optional<bool> json_bool(const Json& value) {
    const bool* b = value.get_ptr<const Json::boolean_t*>();
    return b ? std::optional(*b) : std::nullopt;
}

// nlohmann marks what was parsed without a minus sign as unsigned, and what came from a signed C++ integer as signed.
std::optional<int64_t> json_int64(const Json& value) {
    if (value.is_number_unsigned()) {
        uint64_t u = value.get<uint64_t>();
        return std::in_range<int64_t>(u) ? std::optional(static_cast<int64_t>(u)) : std::nullopt;
    }
    return value.is_number_integer() ? std::optional(value.get<int64_t>()) : std::nullopt;
}

std::optional<uint64_t> json_uint64(const Json& value) {
    if (value.is_number_unsigned())
        return value.get<uint64_t>();
    if (!value.is_number_integer() || value.get<int64_t>() < 0)
        return std::nullopt;
    return static_cast<uint64_t>(value.get<int64_t>());
}

std::string_view json_type_name(const Json& value) {
    switch (value.type()) {
        case Json::value_t::null:
            return "null";
        case Json::value_t::object:
            return "object";
        case Json::value_t::array:
            return "array";
        case Json::value_t::string:
            return "string";
        case Json::value_t::boolean:
            return "boolean";
        case Json::value_t::number_integer:
        case Json::value_t::number_unsigned:
            return "integer";
        case Json::value_t::number_float:
            return "number";
        default:
            return "value";
    }
}

}  // namespace ashlar

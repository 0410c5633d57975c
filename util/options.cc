#include "util/options.h"

#include "util/json.h"
#include "util/report.h"
#include "util/similar.h"
#include "util/size.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace ashlar {

JsonBox::JsonBox(Json value) : value_(std::make_shared<const Json>(std::move(value))) {}

bool BlockdevRef::is_null() const {
    return is_given() && value_->is_null();
}

bool BlockdevRef::is_reference() const {
    return is_given() && value_->is_string();
}

const std::string& BlockdevRef::reference() const {
    return value_->get_ref<const std::string&>();
}

bool BlockdevRef::is_definition() const {
    return is_given() && value_->is_object();
}

const Json& BlockdevRef::definition() const {
    return *value_;
}

std::string OptionPlace::path() const {
    std::string prefix = parent ? parent->path() : std::string();
    if (!parent)
        return std::string(key);
    if (key.empty())
        return typing == Typing::Strict ? fmt::format("{}[{}]", prefix, index) : fmt::format("{}.{}", prefix, index);
    return prefix.empty() ? std::string(key) : fmt::format("{}.{}", prefix, key);
}

// --- values ---

namespace {

std::unexpected<Error> wrong_type(const OptionPlace& at, std::string_view expected) {
    return fail("Invalid parameter type for '{}', expected: {}", at.path(), expected);
}

// The text of a value that key=value wrote, where that is allowed.
const std::string* lenient_text(const Json& value, const OptionPlace& at) {
    return at.typing == Typing::Lenient ? json_string(value) : nullptr;
}

std::unexpected<Error> bad_size(const OptionPlace& at) {
    return std::unexpected(
        Error{fmt::format("Parameter '{}' expects a non-negative number below 2^64", at.path())}.with_hint(
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
            "and exabytes, respectively."));
}

}  // namespace

Result<void> read_option(bool& out, const Json& value, const OptionPlace& at) {
    if (const std::string* text = lenient_text(value, at)) {
        if (*text == "on" || *text == "yes" || *text == "true" || *text == "y")
            out = true;
        else if (*text == "off" || *text == "no" || *text == "false" || *text == "n")
            out = false;
        else
            return fail("Parameter '{}' expects 'on' or 'off'", at.path());
        return {};
    }
    auto typed = json_bool(value);
    if (!typed)
        return wrong_type(at, "boolean");
    out = *typed;
    return {};
}

Result<int64_t> read_signed(const Json& value, int64_t min, int64_t max, const OptionPlace& at) {
    std::optional<int64_t> number;
    if (const std::string* text = lenient_text(value, at)) {
        auto parsed = parse_int64(*text);
        if (!parsed && parsed.error() == -EINVAL)
            return fail("Parameter '{}' expects integer", at.path());
        if (parsed)
            number = *parsed;
    } else if (value.is_number_integer()) {
        number = json_int64(value);
    } else {
        return wrong_type(at, "integer");
    }
    if (!number || *number < min || *number > max)
        return fail("Parameter '{}' expects an integer from {} to {}", at.path(), min, max);
    return *number;
}

Result<uint64_t> read_unsigned(const Json& value, uint64_t max, const OptionPlace& at) {
    std::optional<uint64_t> number;
    if (const std::string* text = lenient_text(value, at)) {
        if (auto parsed = parse_uint64(*text))
            number = *parsed;
        else if (parsed.error() == -EINVAL && !parse_int64(*text))
            return fail("Parameter '{}' expects integer", at.path());
    } else if (value.is_number_integer()) {
        number = json_uint64(value);
    } else {
        return wrong_type(at, "integer");
    }
    if (!number || *number > max)
        return fail("Parameter '{}' expects an integer from 0 to {}", at.path(), max);
    return *number;
}

Result<void> read_option(Size& out, const Json& value, const OptionPlace& at) {
    if (const std::string* text = lenient_text(value, at)) {
        auto parsed = parse_size(*text);
        if (!parsed)
            return bad_size(at);
        out.bytes = *parsed;
        return {};
    }
    if (!value.is_number_integer())
        return wrong_type(at, "integer");
    auto typed = json_uint64(value);
    if (!typed)
        return bad_size(at);
    out.bytes = *typed;
    return {};
}

Result<void> read_option(double& out, const Json& value, const OptionPlace& at) {
    if (const std::string* text = lenient_text(value, at)) {
        auto number = parse_json(*text);
        if (!number || !number->is_number())
            return fail("Parameter '{}' expects number", at.path());
        out = number->get<double>();
        return {};
    }
    if (!value.is_number())
        return wrong_type(at, "number");
    out = value.get<double>();
    return {};
}

Result<void> read_option(std::string& out, const Json& value, const OptionPlace& at) {
    const std::string* text = json_string(value);
    if (!text)
        return wrong_type(at, "string");
    out = *text;
    return {};
}

Result<size_t> read_enum(const Json& value, std::span<const std::string_view> names, const OptionPlace& at) {
    const std::string* text = json_string(value);
    if (!text)
        return wrong_type(at, "string");
    auto it = std::find(names.begin(), names.end(), *text);
    if (it == names.end())
        return std::unexpected(Error{
            fmt::format("Parameter '{}' does not accept value '{}'{}", at.path(), *text, did_you_mean(*text, names))}
                                   .with_hint(fmt::format("It accepts {}.", fmt::join(names, ", "))));
    return static_cast<size_t>(it - names.begin());
}

Result<void> read_option(JsonBox& out, const Json& value, const OptionPlace&) {
    out = JsonBox(value);
    return {};
}

Result<void> read_option(BlockdevRef& out, const Json& value, const OptionPlace& at) {
    if (!value.is_string() && !value.is_object())
        return wrong_type(at, "node-name or object");
    out = BlockdevRef(JsonBox(value), at.typing);
    return {};
}

Result<void> read_option(BlockdevRefOrNull& out, const Json& value, const OptionPlace& at) {
    if (!value.is_string() && !value.is_object() && !value.is_null())
        return wrong_type(at, "node-name, object or null");
    const std::string* name = json_string(value);
    const bool none = name && name->empty();  // as in QEMU, `backing=`
    out = BlockdevRefOrNull(JsonBox(none ? Json() : value), at.typing);
    return {};
}

Result<void> read_option(BlockdevDefinition& out, const Json& value, const OptionPlace& at) {
    if (!value.is_object())
        return wrong_type(at, "object");
    out = BlockdevDefinition(JsonBox(value), at.typing);
    return {};
}

Result<void> read_list(const Json& value, const OptionPlace& at,
                       const std::function<Result<void>(const Json&, const OptionPlace&)>& read_element) {
    if (!value.is_array())
        return wrong_type(at, "array");
    for (size_t i = 0; i < value.size(); ++i)
        if (auto done = read_element(value[i], at.element(i)); !done)
            return done;
    return {};
}

void write_option(bool value, Json& out) {
    out = value;
}

void write_option(double value, Json& out) {
    out = value;
}

void write_option(Size value, Json& out) {
    out = value.bytes;
}

void write_option(int64_t value, Json& out) {
    out = value;
}

void write_option(uint64_t value, Json& out) {
    out = value;
}

void write_option(std::string_view value, Json& out) {
    out = value;
}

void write_option(const JsonBox& value, Json& out) {
    if (value.has_value())
        out = *value;
}

void write_option(const BlockdevRef& value, Json& out) {
    write_option(value.value(), out);
}

void write_list(size_t size, Json& out, const std::function<void(size_t, Json&)>& write_element) {
    out = Json::array();
    for (size_t i = 0; i < size; ++i)
        write_element(i, out.emplace_back());
}

// --- sets ---

std::string OptionType::name() const {
    switch (kind) {
        case OptionKind::Bool:
            return "bool";
        case OptionKind::Int:
            return "int";
        case OptionKind::Size:
            return "size";
        case OptionKind::Number:
            return "number";
        case OptionKind::String:
            return "string";
        case OptionKind::Enum:
            return fmt::format("{}", fmt::join(values, "|"));
        case OptionKind::Object:
            return object().name();
        case OptionKind::List:
            return "list of " + element->name();
        case OptionKind::BlockdevRef:
        case OptionKind::BlockdevRefOrNull:
        case OptionKind::BlockdevDefinition:
            return "node";
        case OptionKind::Any:
            return "any";
    }
    return "?";
}

bool OptionInfo::is_called(std::string_view key) const {
    return key == name || std::find(aliases.begin(), aliases.end(), key) != aliases.end();
}

const OptionInfo* OptionSchema::find(std::string_view key) const {
    auto it = std::find_if(options_.begin(), options_.end(), [&](const OptionInfo& o) { return o.is_called(key); });
    return it == options_.end() ? nullptr : &*it;
}

void OptionSchema::add(OptionInfo info, Access access) {
    assert(!find(info.name));
    options_.push_back(std::move(info));
    accesses_.push_back(std::move(access));
}

void OptionSchema::add_variant(std::string_view value, const OptionSchema& schema, std::function<void*(void*)> locate) {
    if (variants_.empty())
        tag_ = options_.size() - 1;
    assert(options_[tag_].type->kind == OptionKind::Enum && options_[tag_].required);
    variants_.push_back({std::string(value), &schema});
    locations_.push_back(std::move(locate));
}

std::optional<size_t> OptionSchema::chosen_variant(const void* object) const {
    if (variants_.empty())
        return std::nullopt;
    Json tag;
    accesses_[tag_].write(object, tag);
    auto it = std::find_if(variants_.begin(), variants_.end(), [&](const OptionVariant& v) { return tag == v.value; });
    if (it == variants_.end())
        return std::nullopt;
    return static_cast<size_t>(it - variants_.begin());
}

JsonBox OptionSchema::box_default(const OptionType& type, const std::function<void(Json&)>& write) {
    Json value;
    if (type.kind != OptionKind::Object)  // whose members have defaults of their own, and which may be this very set
        write(value);
    bool worth_telling = !value.is_null() && !value.is_structured() && value != "";
    return worth_telling ? JsonBox(std::move(value)) : JsonBox();
}

std::string OptionSchema::help() const {
    constexpr size_t kColumn = 25;
    std::string out = fmt::format("{} options:\n", name_);
    for (const OptionInfo& option : options_) {
        std::string line = fmt::format("  {}=<{}>", option.name, option.type->name());
        out += fmt::format("{:<{}} - {}", line, kColumn, option.help);
        if (option.default_value.has_value()) {
            const Json& value = *option.default_value;
            if (auto truth = json_bool(value))
                out += *truth ? " (default: on)" : " (default: off)";
            else
                out += fmt::format(" (default: {})", value.is_string() ? *json_string(value) : dump_json(value));
        }
        if (!option.deprecated.empty())
            out += fmt::format(" (deprecated: {})", option.deprecated);
        out += '\n';
    }
    for (const OptionVariant& variant : variants_)
        out += fmt::format("with {}={}, {}", tag()->name, variant.value, variant.schema->help());
    return out;
}

Result<void> OptionSchema::reject_rest(const Json& rest, const OptionPlace& at, const void* object) const {
    if (rest.empty())
        return {};
    const std::string& key = rest.begin().key();
    std::vector<std::string_view> names;
    for (const OptionInfo& option : options_)
        names.push_back(option.name);
    if (auto chosen = object ? chosen_variant(object) : std::nullopt)
        for (const OptionInfo& option : variants_[*chosen].schema->options())
            names.push_back(option.name);
    return fail("Parameter '{}' is unexpected{}", at.member(key).path(), did_you_mean(key, names));
}

Result<void> OptionSchema::take_members(void* object, Json& dict, const OptionPlace& at) const {
    if (!dict.is_object())
        return wrong_type(at, "object");
    for (size_t i = 0; i < options_.size(); ++i) {
        const OptionInfo& option = options_[i];
        std::string used;
        for (auto it = dict.begin(); it != dict.end();) {
            if (!option.is_called(it.key())) {
                ++it;
                continue;
            }
            if (!used.empty())
                return fail("Parameters '{}' and '{}' are the same: only one can be given", used, it.key());
            used = it.key();
            if (auto done = accesses_[i].read(object, *it, at.member(used)); !done)
                return done;
            it = dict.erase(it);
        }
        if (used.empty() && option.required)
            return fail("Parameter '{}' is missing", at.member(option.name).path());
        if (!used.empty() && !option.deprecated.empty())
            warn_report("parameter '{}' is deprecated: {}", at.member(used).path(), option.deprecated);
    }
    if (auto chosen = chosen_variant(object))
        return variants_[*chosen].schema->take_members(locations_[*chosen](object), dict, at);
    return {};
}

Result<void> OptionSchema::parse_members(void* object, const Json& value, const OptionPlace& at) const {
    Json rest = value;
    if (auto done = take_members(object, rest, at); !done)
        return done;
    return reject_rest(rest, at, object);
}

void OptionSchema::write_members(const void* object, Json& out) const {
    out = Json::object();
    for (size_t i = 0; i < options_.size(); ++i) {
        Json value;
        accesses_[i].write(object, value);
        if (!value.is_null())
            out[options_[i].name] = std::move(value);
    }
    if (auto chosen = chosen_variant(object)) {
        Json members;
        // Only read here; the function is shared with the reader, which needs it writable.
        variants_[*chosen].schema->write_members(locations_[*chosen](const_cast<void*>(object)), members);
        out.update(members);
    }
}

}  // namespace ashlar

#include "tools/img/create_options.h"

#include "block/image_create.h"
#include "util/keyval.h"
#include "util/similar.h"
#include "util/size.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace ashlar::img {

namespace {

std::string_view type_name(const OptionType& type) {
    switch (type.kind) {
        case OptionKind::Bool:
            return "bool (on/off)";
        case OptionKind::Int:
        case OptionKind::Number:
            return "num";
        case OptionKind::Size:
            return "size";
        default:
            return "str";
    }
}

Result<Json> typed(const OptionInfo& info, const std::string& text) {
    switch (info.type->kind) {
        case OptionKind::Bool:
            for (std::string_view yes : {"on", "yes", "true", "y"})
                if (text == yes)
                    return Json(true);
            for (std::string_view no : {"off", "no", "false", "n"})
                if (text == no)
                    return Json(false);
            return fail("Parameter '{}' expects 'on' or 'off'", info.name);
        case OptionKind::Int:
            if (auto number = parse_uint64(text))
                return Json(*number);
            return fail("Parameter '{}' expects a number", info.name);
        case OptionKind::Size:
            if (auto bytes = parse_size(text))
                return Json(*bytes);
            return std::unexpected(
                Error{.message = fmt::format("Parameter '{}' expects a non-negative number below 2^64", info.name),
                      .hint = "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                              "and exabytes, respectively."});
        default:
            return Json(text);
    }
}

// The order in which scripts know the options, and which of them are shown when they are not given.
struct Shown {
    std::string_view name;
    bool unset = false;
};
constexpr Shown kShown[] = {
    {"cluster_size", true},
    {"extended_l2", true},
    {"preallocation"},
    {"compression_type", true},
    {"size"},
    {"compat"},
    {"backing_file"},
    {"backing_fmt"},
    {"data_file"},
    {"data_file_raw"},
    {"lazy_refcounts", true},
    {"refcount_bits", true},
};

const OptionInfo* find_option(const std::vector<const OptionInfo*>& options, std::string_view name) {
    auto found = std::ranges::find_if(options, [&](const OptionInfo* option) { return option->is_called(name); });
    return found == options.end() ? nullptr : *found;
}

std::string shown(const Json& value) {
    if (value.is_boolean())
        return value.get<bool>() ? "on" : "off";
    const std::string* text = json_string(value);
    return text ? *text : dump_json(value);
}

}  // namespace

std::string options_help(std::vector<const OptionInfo*> options) {
    std::ranges::sort(options, {}, &OptionInfo::name);
    std::string text;
    for (const OptionInfo* option : options)
        text += fmt::format("  {:<22} - {}\n", fmt::format("{}=<{}>", option->name, type_name(*option->type)),
                            option->help);
    return text;
}

Result<Json> parse_image_options(const std::vector<const OptionInfo*>& known, std::string_view text) {
    auto given = parse_keyval_flat(text, {.flags = true});
    if (!given)
        return std::unexpected(std::move(given.error()));
    Json options = Json::object();
    for (const auto& [key, value] : given->options.items()) {
        const OptionInfo* info = find_option(known, key);
        if (!info) {
            std::vector<std::string_view> names;
            for (const OptionInfo* one : known)
                names.push_back(one->name);
            return fail("Invalid parameter '{}'{}", key, did_you_mean(key, names));
        }
        auto made = typed(*info, *json_string(value));
        if (!made)
            return std::unexpected(std::move(made.error()));
        options[info->name] = std::move(*made);
    }
    return options;
}

bool asks_for_help(std::string_view options) {
    for (size_t start = 0; start <= options.size();) {
        const size_t end = std::min(options.find(',', start), options.size());
        if (is_help_request(options.substr(start, end - start)))
            return true;
        start = end + 1;
    }
    return false;
}

void add_creation_options(CommandLine& line, std::string help, std::string& options) {
    line.add('o', "", "OPTIONS", std::move(help), [&options](std::string_view text) -> Result<void> {
        const std::string_view end = text.substr(text.find_last_not_of(',') + 1);
        if (text.empty() || text.starts_with(',') || end.size() % 2 == 1)  // two are a comma in a value
            return fail("Invalid option list: {}", text);
        options += options.empty() ? "" : ",";
        options += text;
        return {};
    });
}

Result<const DriverType*> creatable_format(const DriverRegistry& drivers, std::string_view name) {
    const DriverType* type = drivers.find(name);
    if (!type) {
        std::vector<std::string_view> known;
        for (const DriverType* one : drivers.types())
            if (one->co_create && !one->is_protocol)
                known.push_back(one->name);
        return std::unexpected(Error{.message = fmt::format("Unknown file format '{}'", name),
                                     .hint = fmt::format("It accepts {}.", fmt::join(known, ", "))});
    }
    if (!type->co_create && !type->is_protocol)
        return fail("Format driver '{}' does not support image creation", name);
    return type;
}

CreateOptions::CreateOptions(const DriverType& format, const DriverType* protocol)
    : format_(format), has_protocol_(protocol) {
    static const OptionType kSizeType{OptionKind::Size};
    static const OptionInfo kSize{.name = "size", .type = &kSizeType, .required = true, .help = "Virtual disk size"};
    if (format.create_options)
        for (std::ptrdiff_t place = 0; place <= std::ssize(kShown); ++place)
            for (const OptionInfo& option : format.create_options().options())
                if (std::ranges::find(kShown, option.name, &Shown::name) - kShown == place)
                    options_.push_back(&option);
    if (protocol) {
        const OptionSchema& own =
            protocol->create_options ? protocol->create_options() : ExistingFileOptions::options();
        for (const OptionInfo& option : own.options())
            if (!has(option.name))
                options_.push_back(&option);
    }
    if (!has("size"))  // a protocol that can only take what is there
        options_.push_back(&kSize);
}

const OptionInfo* CreateOptions::find(std::string_view name) const {
    return find_option(options_, name);
}

std::string CreateOptions::help() const {
    if (has_protocol_)
        return "Supported options:\n" + options_help(options_);
    std::string text = fmt::format("Supported {} options:\n", format_.name) + options_help(options_);
    if (!format_.is_protocol)
        text +=
            "\nThe protocol level may support further options.\n"
            "Specify the target filename to include those options.\n";
    return text;
}

std::string CreateOptions::describe(const Json& options) const {
    std::string text = fmt::format("fmt={}", format_.name);
    for (const OptionInfo* option : options_) {
        const Json* value = json_find(options, option->name);
        auto rule = std::ranges::find(kShown, option->name, &Shown::name);
        if (!value && rule != std::end(kShown) && rule->unset && option->default_value.has_value())
            value = &*option->default_value;
        if (value)
            text += fmt::format(" {}={}", option->name, shown(*value));
    }
    return text;
}

}  // namespace ashlar::img

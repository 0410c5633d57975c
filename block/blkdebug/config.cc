#include "block/blkdebug/config.h"

#include "util/json.h"

namespace ashlar {

namespace {

constexpr std::string_view kBlank = " \t\r";

std::string_view trim(std::string_view text) {
    size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// What is between the quotes at the beginning of `text`; only a comment may follow.
std::optional<std::string_view> quoted(std::string_view text) {
    if (!text.starts_with('"'))
        return std::nullopt;
    size_t end = text.find('"', 1);
    if (end == std::string_view::npos)
        return std::nullopt;
    std::string_view rest = trim(text.substr(end + 1));
    if (!rest.empty() && !rest.starts_with('#'))
        return std::nullopt;
    return text.substr(1, end - 1);
}

}  // namespace

Result<Json> parse_blkdebug_config(std::string_view text) {
    Json rules{{"inject-error", Json::array()}, {"set-state", Json::array()}};
    Json* section = nullptr;
    for (unsigned number = 1; !text.empty(); ++number) {
        size_t end = text.find('\n');
        std::string_view line = trim(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty() || line.starts_with('#'))
            continue;
        if (line.starts_with('[')) {
            // A section may have a name, which means nothing here: [inject-error "read"]
            std::string_view name = line.substr(1, line.find_first_of(" ]\"") - 1);
            if (!line.ends_with(']'))
                return fail("{}: '{}' lacks its ']'", number, line);
            if (!rules.contains(name))
                return fail("{}: There is no option group '{}' (it can be inject-error or set-state)", number, name);
            section = &rules[std::string(name)].emplace_back(Json::object());
            continue;
        }
        size_t equals = line.find('=');
        auto value = equals == std::string_view::npos ? std::nullopt : quoted(trim(line.substr(equals + 1)));
        if (!value)
            return fail("{}: parse error: expected: key = \"value\"", number);
        if (!section)
            return fail("{}: no group defined", number);
        std::string key(trim(line.substr(0, equals)));
        if (section->contains(key))
            return fail("{}: '{}' is given twice", number, key);
        (*section)[key] = *value;
    }
    return rules;
}

}  // namespace ashlar

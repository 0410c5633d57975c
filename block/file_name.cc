#include "block/file_name.h"

namespace ashlar {

std::optional<std::string_view> protocol_prefix(std::string_view filename) {
    size_t end = filename.find_first_of(":/");
    if (end == filename.npos || end == 0 || filename[end] == '/')
        return std::nullopt;
    std::string_view prefix = filename.substr(0, end);
    return prefix == "json" ? std::nullopt : std::optional(prefix);
}

std::string combine_names(std::string_view base, std::string_view name) {
    if (name.starts_with('/') || protocol_prefix(name) || name.starts_with("json:"))
        return std::string(name);
    size_t start = 0;
    if (auto prefix = protocol_prefix(base)) {
        start = prefix->size() + 1;
        if (base.substr(start).starts_with("//")) {  // the host is no directory
            size_t path = base.find('/', start + 2);
            if (path == base.npos)
                return std::string(base) + "/" + std::string(name);
            start = path;
        }
    }
    size_t slash = base.rfind('/');
    size_t keep = slash == base.npos || slash < start ? start : slash + 1;
    return std::string(base.substr(0, keep)) + std::string(name);
}

}  // namespace ashlar

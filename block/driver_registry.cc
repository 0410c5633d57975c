#include "block/block_driver.h"
#include "block/file_name.h"
#include "block/format_signatures.h"
#include "util/similar.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

void DriverRegistry::add(const DriverType& type) {
    assert(!find(type.name));
    types_.push_back(&type);
}

const DriverType* DriverRegistry::find(std::string_view name) const {
    auto it = std::find_if(types_.begin(), types_.end(), [&](const DriverType* type) { return type->name == name; });
    return it == types_.end() ? nullptr : *it;
}

Result<const DriverType*> DriverRegistry::get(std::string_view name) const {
    if (const DriverType* type = find(name))
        return type;
    std::vector<std::string_view> names;
    for (const DriverType* type : types_)
        names.push_back(type->name);
    return fail("Unknown driver '{}'{}", name, did_you_mean(name, names));
}

Result<const DriverType*> DriverRegistry::protocol_for(const std::string& filename) const {
    if (auto prefix = protocol_prefix(filename)) {
        for (const DriverType* type : types_)
            if (std::find(type->prefixes.begin(), type->prefixes.end(), *prefix) != type->prefixes.end())
                return type;
        return std::unexpected(Error{.message = fmt::format("Unknown protocol '{}'", *prefix),
                                     .hint = fmt::format("If it is a file, write './{}'.", filename)});
    }
    const DriverType* best = nullptr;
    int best_score = 0;
    for (const DriverType* type : types_) {
        int score = type->probe_filename ? type->probe_filename(filename) : 0;
        if (score > best_score) {
            best = type;
            best_score = score;
        }
    }
    if (!best)
        return fail("{}: no protocol driver for files", filename);
    return best;
}

Result<const DriverType*> DriverRegistry::probe(std::span<const std::byte> head, std::string_view filename) const {
    const DriverType* best = nullptr;
    int best_score = 0;
    for (const DriverType* type : types_) {
        int score = type->probe ? type->probe(head, filename) : 0;
        if (score > best_score) {
            best = type;
            best_score = score;
        }
    }
    std::string_view format = format_of_header(head);
    if (!format.empty() && (!best || best_score <= DriverType::kRawScore))
        return std::unexpected(Error{.message = fmt::format("{}: image format '{}' is not supported", filename, format),
                                     .hint = "Specify the format 'raw' to use the bytes of the file as they are."});
    if (!best)
        return fail("{}: image format not recognized", filename);
    return best;
}

bool DriverRegistry::looks_like_format(std::span<const std::byte> head) const {
    if (!format_of_header(head).empty())
        return true;
    return std::any_of(types_.begin(), types_.end(), [&](const DriverType* type) {
        return type->probe && type->probe(head, "") > DriverType::kRawScore;
    });
}

}  // namespace ashlar

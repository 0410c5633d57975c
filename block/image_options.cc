#include "block/image_options.h"

#include "util/json.h"

#include <fmt/ranges.h>
#include <algorithm>

namespace ashlar {

Result<Json> image_options(const DriverRegistry& drivers, std::string filename, std::string format,
                           const Json& file_options) {
    const bool is_json = filename.starts_with("json:");
    if (is_json && !file_options.empty())
        return fail("'{}' belongs into the options of '{}'", file_options.begin().key(), filename);
    Json file = {{"filename", std::move(filename)}};
    file.update(file_options);
    if (format.empty() && file_options.empty())
        return file;

    Json options = Json::object();
    if (!format.empty()) {
        auto type = drivers.get(format);
        if (!type)
            return std::unexpected(std::move(type.error()));
        options["driver"] = std::move(format);
        if (is_json || (*type)->is_protocol) {
            options.update(file);
            return options;
        }
    }
    options["file"] = std::move(file);
    return options;
}

std::string formats_help(const DriverRegistry& drivers) {
    std::vector<std::string_view> names;
    for (const DriverType* type : drivers.types())
        names.push_back(type->name);
    std::ranges::sort(names);
    return fmt::format("Supported formats: {}\n", fmt::join(names, " "));
}

}  // namespace ashlar

#include "tools/human_info.h"

#include "util/json.h"

namespace ashlar {

namespace {

std::string entry(std::string name, const Json& value, unsigned indentation) {
    std::string line = fmt::format("{:{}}{}:", "", indentation, name);
    if (value.is_structured())
        return line + "\n" + human_info(value, indentation + 4);
    const std::string* text = json_string(value);
    return line + " " + (text ? *text : dump_json(value)) + "\n";
}

}  // namespace

std::string human_info(const Json& value, unsigned indentation) {
    std::string out;
    if (value.is_array())
        for (size_t i = 0; i < value.size(); ++i)
            out += entry(fmt::format("[{}]", i), value[i], indentation);
    else if (value.is_object())
        for (const auto& [key, member] : value.items()) {
            std::string name = key;
            for (char& c : name)
                if (c == '-')
                    c = ' ';
            out += entry(std::move(name), member, indentation);
        }
    return out;
}

}  // namespace ashlar

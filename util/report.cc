#include "util/report.h"

#include <cstdio>

namespace ashlar {

namespace {

std::string g_program_name = "ashlar";

}  // namespace

void set_program_name(std::string_view name) {
    g_program_name = name.substr(name.rfind('/') + 1);
}

const std::string& program_name() {
    return g_program_name;
}

void report(Severity severity, std::string_view message, std::string_view hint) {
    constexpr const char* kLabels[] = {"", "warning: ", "info: "};
    std::string text = fmt::format("{}: {}{}\n", g_program_name, kLabels[static_cast<int>(severity)], message);
    if (!hint.empty())
        text.append(hint).append(hint.ends_with('\n') ? "" : "\n");
    fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace ashlar

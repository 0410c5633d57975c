#include "tools/machine/cpu_option.h"

#include "util/keyval.h"
#include "util/options.h"
#include "util/similar.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace ashlar {

namespace {

// Older names are written with a capital letter: Zicsr.
constexpr std::string_view kAlways[] = {"i", "m", "a", "c", "s", "u", "zicsr", "zifencei", "svadu"};
constexpr std::string_view kNever[] = {"e",    "h",      "v",      "zba",     "zbb",     "zbc",      "zbs",  "zfh",
                                       "sv57", "zfhmin", "svpbmt", "svinval", "svnapot", "sscofpmf", "debug"};
struct Choice {
    std::string_view name, help;
};
constexpr Choice kChoices[] = {
    {"sstc", "the timer of S-mode, stimecmp"},
    {"pmp", "16 entries of physical memory protection"},
    {"mmu", "paging; without it there is no Sv39 either"},
    {"sv48", "Sv48 beside Sv39"},
    {"f", "floating point; together with d"},
    {"d", "floating point; together with f"},
};

template <size_t kCount>
bool has(const std::string_view (&names)[kCount], std::string_view name) {
    return std::ranges::find(names, name) != std::end(names);
}

std::unexpected<Error> no_such_property(std::string_view name) {
    std::vector<std::string_view> names;
    for (const Choice& choice : kChoices)
        names.push_back(choice.name);
    return fail("Property 'rv64-riscv-cpu.{}' not found{}", name, did_you_mean(name, names));
}

}  // namespace

Result<HartFeatures> parse_cpu_option(std::string_view text) {
    auto given = parse_keyval_flat(text, {.implied_key = "model"});
    if (!given)
        return std::unexpected(std::move(given.error()));
    const std::string* model = given->options.contains("model") ? json_string(given->options["model"]) : nullptr;
    if (!model || *model != "rv64")
        return fail("unable to find CPU model '{}': there is rv64", model ? *model : std::string(text));
    bool sstc = true, pmp = true, mmu = true, sv39 = true, sv48 = true, f = true, d = true;
    const std::pair<std::string_view, bool*> values[] = {{"sstc", &sstc}, {"pmp", &pmp}, {"mmu", &mmu}, {"sv39", &sv39},
                                                         {"sv48", &sv48}, {"f", &f},     {"d", &d}};
    for (const auto& [key, value] : given->options.items()) {
        if (key == "model")
            continue;
        std::string name = key;
        name[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(name[0])));
        const auto* chosen = std::ranges::find(values, name, &std::pair<std::string_view, bool*>::first);
        if (chosen == std::end(values) && !has(kAlways, name) && !has(kNever, name))
            return no_such_property(key);
        bool on = false;
        if (auto read = read_option(on, value, {nullptr, key, 0, Typing::Lenient}); !read)
            return std::unexpected(std::move(read.error()));
        if (has(kAlways, name) && !on)
            return fail("{}=off: this hart is not to be had without it", key);
        if (has(kNever, name) && on)
            return fail("{}=on: this hart does not have it", key);
        if (chosen != std::end(values))
            *chosen->second = on;
    }
    if (f != d)
        return std::unexpected(Error{"f and d: this hart has both, or none"}.with_hint("Say f=off,d=off."));
    if (mmu && !sv39)
        return std::unexpected(Error{"sv39=off: a hart that pages has it"}.with_hint("Without paging: mmu=off."));
    using Paging = HartFeatures::Paging;
    return HartFeatures{.sstc = sstc,
                        .pmp = pmp,
                        .floating_point = f,
                        .paging = !mmu   ? Paging::None
                                  : sv48 ? Paging::Sv48
                                         : Paging::Sv39};
}

std::string cpu_help() {
    std::string text =
        fmt::format("rv64    {}, Sv39, Sv48, 16 PMP entries\n\nrv64 options, all of them on:\n", isa_string({}));
    for (const Choice& choice : kChoices)
        text +=
            fmt::format("  {}=<bool>{}  - {}\n", choice.name, std::string(6 - choice.name.size(), ' '), choice.help);
    return text;
}

}  // namespace ashlar

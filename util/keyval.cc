#include "util/keyval.h"

#include "util/size.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace ashlar {

namespace {

// Takes what is before the next comma, and that comma, off `text`. Where `escapes`, `,,` stands for a comma.
std::string take_until_comma(std::string_view& text, bool escapes) {
    std::string out;
    while (!text.empty()) {
        if (text[0] == ',') {
            if (!escapes || !text.starts_with(",,"))
                break;
            text.remove_prefix(1);
        }
        out += text[0];
        text.remove_prefix(1);
    }
    text.remove_prefix(std::min<size_t>(text.size(), 1));
    return out;
}

bool is_index(std::string_view fragment) {
    return !fragment.empty() &&
           std::all_of(fragment.begin(), fragment.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name(std::string_view fragment) {
    return !fragment.empty() && (is_letter(fragment[0]) || fragment.starts_with("__")) &&
           std::all_of(fragment.begin(), fragment.end(),
                       [](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_'; });
}

// Calls fn(fragment) until it returns false; returns whether it never did.
template <class Fn>
bool each_fragment(std::string_view key, Fn fn) {
    for (;;) {
        size_t dot = key.find('.');
        if (!fn(key.substr(0, dot)))
            return false;
        if (dot == key.npos)
            return true;
        key.remove_prefix(dot + 1);
    }
}

bool is_valid_key(std::string_view key) {
    bool first = true;
    return each_fragment(key, [&](std::string_view fragment) {
        bool valid = is_name(fragment) || (!first && is_index(fragment));
        first = false;
        return valid;
    });
}

std::string join(std::string_view prefix, std::string_view key) {
    return prefix.empty() ? std::string(key) : fmt::format("{}.{}", prefix, key);
}

std::unexpected<Error> inconsistent(std::string_view prefix) {
    return fail("Parameters '{}.*' used inconsistently", prefix);
}

// Turns objects that have indices for keys into lists, from the innermost outwards.
Result<void> make_lists(Json& node, const std::string& path) {
    if (!node.is_object() || node.empty())
        return {};
    auto& members = node.get_ref<Json::object_t&>();
    size_t indices = 0;
    for (auto& [key, value] : members) {
        if (auto done = make_lists(value, join(path, key)); !done)
            return done;
        indices += is_index(key);
    }
    if (indices == 0)
        return {};
    if (indices != members.size() || path.empty())
        return inconsistent(path);

    Json list = Json::array();
    for (size_t i = 0; i < members.size(); ++i) {
        auto it = node.find(fmt::format("{}", i));
        if (it == node.end())
            return fail("Parameter '{}.{}' missing", path, i);
        list.push_back(std::move(*it));
    }
    node = std::move(list);
    return {};
}

Result<void> insert_dotted(Json& root, std::string_view key, const Json& value) {
    Json* node = &root;
    std::string_view path = key;
    unsigned depth = 0;
    for (size_t dot = 0; (dot = key.find('.', dot)) != key.npos; ++dot) {
        size_t start = path.data() - key.data();
        if (++depth == kJsonMaxNesting)
            return fail("Parameter '{}...' exceeds the limit of {} levels", key.substr(0, 64), kJsonMaxNesting);
        Json& child = *node->emplace(std::string(key.substr(start, dot - start)), Json::object()).first;
        if (!child.is_object())
            return inconsistent(key.substr(0, dot));
        node = &child;
        path = key.substr(dot + 1);
    }
    auto [it, inserted] = node->emplace(std::string(path), Json(value));
    if (!inserted)
        return inconsistent(key);
    return {};
}

void flatten_into(Json& out, const Json& node, const std::string& path) {
    if (!node.is_structured() || (node.empty() && !path.empty())) {
        out[path] = node;
        return;
    }
    if (node.is_array()) {
        for (size_t i = 0; i < node.size(); ++i)
            flatten_into(out, node[i], fmt::format("{}.{}", path, i));
        return;
    }
    for (const auto& [key, value] : node.get_ref<const Json::object_t&>())
        flatten_into(out, value, join(path, key));
}

Result<void> merge_at(Json& into, const Json& from, const std::string& path) {
    for (const auto& [key, value] : from.get_ref<const Json::object_t&>()) {
        auto [it, inserted] = into.emplace(key, Json(value));
        if (inserted)
            continue;
        Json& mine = *it;
        if (mine.is_object() && value.is_object()) {
            if (auto done = merge_at(mine, value, join(path, key)); !done)
                return done;
        } else if (mine.is_array() && value.is_array()) {
            mine.insert(mine.end(), value.begin(), value.end());
        } else if (mine.is_structured() || value.is_structured()) {
            return fail("Parameter '{}' used inconsistently", join(path, key));
        } else {
            mine = value;
        }
    }
    return {};
}

}  // namespace

Result<Keyval> parse_keyval_flat(std::string_view text, KeyvalSyntax syntax) {
    Keyval result;
    for (bool first = true; !text.empty(); first = false) {
        size_t end = text.find_first_of("=,");
        if (end != text.npos && text[end] == '=') {
            std::string key(text.substr(0, end));
            if (key.empty())
                return fail("Invalid parameter ''");
            text.remove_prefix(end + 1);
            result.options[key] = take_until_comma(text, true);
            continue;
        }
        std::string word = take_until_comma(text, first && !syntax.implied_key.empty());
        if (is_help_request(word))
            result.help = true;
        else if (first && !syntax.implied_key.empty())
            result.options[std::string(syntax.implied_key)] = word;
        else if (word.empty())
            return fail("Invalid parameter ''");
        else if (!syntax.flags)
            return fail("Expected '=' after parameter '{}'", word);
        else {
            const bool off = word.starts_with("no") && word.size() > 2;
            result.options[off ? word.substr(2) : word] = off ? "off" : "on";
            result.flags.push_back(std::move(word));
        }
    }
    return result;
}

Result<Keyval> parse_keyval(std::string_view text, KeyvalSyntax syntax) {
    if (text.starts_with('{')) {
        auto value = parse_json_object(text);
        if (!value)
            return std::unexpected(std::move(value.error()));
        return Keyval{std::move(*value), Typing::Strict, false};
    }
    auto result = parse_keyval_flat(text, syntax);
    if (!result)
        return result;
    for (const auto& [key, value] : result->options.get_ref<const Json::object_t&>())
        if (!is_valid_key(key))
            return fail("Invalid parameter '{}'", key);
    auto tree = crumple(result->options);
    if (!tree)
        return std::unexpected(std::move(tree.error()));
    result->options = std::move(*tree);
    return result;
}

Result<Json> crumple(const Json& flat) {
    Json root = Json::object();
    for (const auto& [key, value] : flat.get_ref<const Json::object_t&>())
        if (auto done = insert_dotted(root, key, value); !done)
            return std::unexpected(std::move(done.error()));
    if (auto done = make_lists(root, ""); !done)
        return std::unexpected(std::move(done.error()));
    return root;
}

Json flatten(const Json& tree) {
    Json out = Json::object();
    flatten_into(out, tree, "");
    return out;
}

Result<void> merge_options(Json& into, const Json& from) {
    return merge_at(into, from, "");
}

}  // namespace ashlar

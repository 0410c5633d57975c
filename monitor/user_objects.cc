#include "monitor/user_objects.h"

#include "util/json.h"
#include "util/keyval.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

namespace {

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

bool is_valid_id(std::string_view id) {
    return !id.empty() && is_letter(id[0]) && std::all_of(id.begin(), id.end(), [](char c) {
        return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    });
}

const OptionSet<IoThreadOptions>& IoThreadOptions::options() {
    static const auto set =
        OptionSet<IoThreadOptions>("iothread")
            .optional("poll-max-ns", &IoThreadOptions::poll_max_ns,
                      "how long to spin before sleeping where that paid off, 0 for never (default: 32000)");
    return set;
}

const OptionSet<ObjectOptions>& ObjectOptions::options() {
    static const auto set = OptionSet<ObjectOptions>("object")
                                .required("id", &ObjectOptions::id, "its name")
                                .required("qom-type", &ObjectOptions::type, "what to make")
                                .variant("iothread", &ObjectOptions::iothread)
                                .variant("throttle-group", &ObjectOptions::throttle_group);
    return set;
}

UserObjects::~UserObjects() {
    assert(std::all_of(threads_.begin(), threads_.end(), [](const auto& t) { return t.second.users == 0; }));
}

Result<void> UserObjects::add(std::string_view argument) {
    auto keyval = parse_keyval(argument, {.implied_key = "qom-type"});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()));
    auto options = ObjectOptions::options().parse(keyval->options, keyval->typing);
    if (!options)
        return std::unexpected(std::move(options.error()));
    return add(std::move(*options));
}

Result<void> UserObjects::add(ObjectOptions options) {
    if (!is_valid_id(options.id))
        return std::unexpected(Error{"Parameter 'id' expects an identifier"}.with_hint(
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."));
    if (threads_.contains(options.id) || throttle_groups_.is_object(options.id))
        return fail("attempt to add duplicate property '{}' to object (type 'container')", options.id);
    if (options.type == ObjectType::IoThread)
        return add_iothread(options.id, options.iothread);
    auto group = throttle_groups_.add_object(options.id, options.throttle_group);
    if (!group)
        return std::unexpected(std::move(group.error()));
    return {};
}

namespace {

Result<void> check_poll_max_ns(int64_t ns) {
    if (ns < 0)
        return fail("poll-max-ns value must be in range [0, {}]", INT64_MAX);
    return {};
}

}  // namespace

Result<void> UserObjects::add_iothread(const std::string& id, const IoThreadOptions& options) {
    int64_t poll_max_ns = options.poll_max_ns.value_or(AioContext::kDefaultPollMaxNs);
    if (auto valid = check_poll_max_ns(poll_max_ns); !valid)
        return valid;
    auto thread = IOThread::create(id);
    if (!thread)
        return std::unexpected(std::move(thread.error()));
    (*thread)->set_poll_max_ns(poll_max_ns);
    threads_[id].thread = std::move(*thread);
    return {};
}

Result<void> UserObjects::remove(std::string_view id) {
    auto it = threads_.find(id);
    if (it == threads_.end()) {
        if (!throttle_groups_.is_object(std::string(id)))
            return fail("object '{}' not found", id);
        return throttle_groups_.remove_object(std::string(id));
    }
    if (it->second.users > 0)
        return fail("object '{}' is in use, can not be deleted", id);
    threads_.erase(it);
    return {};
}

Result<IOThread*> UserObjects::use_iothread(std::string_view id) {
    auto it = threads_.find(id);
    if (it == threads_.end())
        return fail("iothread \"{}\" not found", id);
    ++it->second.users;
    return it->second.thread.get();
}

void UserObjects::release(IOThread& iothread) {
    --threads_.find(iothread.id())->second.users;
}

std::vector<IOThread*> UserObjects::iothreads() const {
    std::vector<IOThread*> list;
    for (const auto& [id, thread] : threads_)
        list.push_back(thread.thread.get());
    return list;
}

// --- properties ---

namespace {

constexpr std::string_view kFolder = "/objects";

std::unexpected<Error> no_property(std::string_view type, std::string_view property) {
    return fail("Property '{}.{}' not found", type, property);
}

}  // namespace

Result<UserObjects::Found> UserObjects::find(std::string_view path) const {
    std::string_view id = path;
    if (id.starts_with(kFolder) && id.substr(kFolder.size()).starts_with('/'))
        id.remove_prefix(kFolder.size() + 1);
    if (auto it = threads_.find(id); it != threads_.end())
        return Found{it->second.thread.get()};
    if (std::string name(id); throttle_groups_.is_object(name))
        return Found{nullptr, throttle_groups_.find(name)};
    return std::unexpected(Error{fmt::format("Device '{}' not found", path)}.with_class(ErrorClass::DeviceNotFound));
}

Result<std::vector<UserObjects::Property>> UserObjects::list(std::string_view path) const {
    std::vector<Property> properties{{"type", "string"}};
    if (path == kFolder) {
        for (const auto& [id, thread] : threads_)
            properties.push_back({id, "child<iothread>"});
        for (const std::string& name : throttle_groups_.object_names())
            properties.push_back({name, "child<throttle-group>"});
        return properties;
    }
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    if (found->thread)
        properties.push_back({"poll-max-ns", "int"});
    else
        properties.push_back({"limits", "ThrottleLimits"});
    return properties;
}

Result<JsonBox> UserObjects::get(std::string_view path, std::string_view property) const {
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    std::string_view type = enum_name(found->thread ? ObjectType::IoThread : ObjectType::ThrottleGroup);
    if (property == "type")
        return JsonBox(Json(type));
    if (found->thread && property == "poll-max-ns")
        return JsonBox(Json(found->thread->context().poll_max_ns()));
    if (found->group && property == "limits")
        return JsonBox(ThrottleLimits::options().to_json(ThrottleLimits::from_config(found->group->config())));
    return no_property(type, property);
}

Result<void> UserObjects::set(std::string_view path, std::string_view property, const Json& value) {
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    if (found->thread && property == "poll-max-ns") {
        int64_t ns = 0;
        if (auto read = OptionTraits<int64_t>::read(ns, value, OptionPlace{}.member(property)); !read)
            return read;
        if (auto valid = check_poll_max_ns(ns); !valid)
            return valid;
        found->thread->set_poll_max_ns(ns);
        return {};
    }
    if (found->group && property == "limits") {
        auto limits = ThrottleLimits::options().parse(value, Typing::Strict);
        if (!limits)
            return std::unexpected(std::move(limits.error()));
        auto config = limits->to_config(found->group->config());
        if (!config)
            return std::unexpected(std::move(config.error()));
        found->group->set_config(*config);
        return {};
    }
    return no_property(enum_name(found->thread ? ObjectType::IoThread : ObjectType::ThrottleGroup), property);
}

}  // namespace ashlar

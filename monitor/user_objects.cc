#include "monitor/user_objects.h"

#include "monitor/object_properties.h"
#include "util/json.h"
#include "util/keyval.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

namespace {

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

std::string text_of(const Json& options, std::string_view key) {
    const Json* found = json_find(options, key);
    const std::string* text = found ? json_string(*found) : nullptr;
    return text ? *text : "";
}

// What an argument is about: `--object secret,id=s`. Not all of it, because it may have a secret.
std::string subject(std::string_view option, const Json& options) {
    std::string what = text_of(options, "qom-type");
    if (const std::string id = text_of(options, "id"); !id.empty())
        what.append(what.empty() ? "id=" : ",id=").append(id);
    return what.empty() ? std::string(option) : fmt::format("{} {}", option, what);
}

std::string parse_hint(std::string_view option, const Json& options) {
    const std::string type = text_of(options, "qom-type");
    for (const OptionVariant& variant : ObjectOptions::options().variants())
        if (variant.value == type)
            return fmt::format("'{} {},help' lists its properties.", option, type);
    return fmt::format("It is {} TYPE,id=ID[,PROPERTY=VALUE...]; '{} help' lists the types.", option, option);
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
                      "how long to spin before sleeping where that paid off, 0 for never (default: 64000)")
            .optional("poll-grow", &IoThreadOptions::poll_grow, "by what that time is multiplied, 0 for 2")
            .optional("poll-shrink", &IoThreadOptions::poll_shrink, "by what it is divided, 0 for 2");
    return set;
}

const OptionSet<ObjectOptions>& ObjectOptions::options() {
    static const auto set = OptionSet<ObjectOptions>("object")
                                .required("id", &ObjectOptions::id, "its name")
                                .required("qom-type", &ObjectOptions::type, "what to make")
                                .variant("iothread", &ObjectOptions::iothread)
                                .variant("secret", &ObjectOptions::secret)
                                .variant("throttle-group", &ObjectOptions::throttle_group);
    return set;
}

UserObjects::~UserObjects() {
    assert(std::all_of(threads_.begin(), threads_.end(), [](const auto& t) { return t.second.users == 0; }));
}

Result<void> UserObjects::add(std::string_view argument, std::string_view option) {
    auto keyval = parse_keyval(argument, {.implied_key = "qom-type"});
    if (!keyval)
        return std::unexpected(std::move(keyval.error()).prefixed(option));
    const std::string what = subject(option, keyval->options);
    auto options = ObjectOptions::options().parse(keyval->options, keyval->typing);
    if (!options) {
        Error error = std::move(options.error());
        if (error.hint.empty())
            error.hint = parse_hint(option, keyval->options);
        return std::unexpected(std::move(error).prefixed(what));
    }
    auto added = add(std::move(*options));
    if (!added)
        return std::unexpected(std::move(added.error()).prefixed(what));
    return {};
}

Result<void> UserObjects::add(ObjectOptions options) {
    if (!is_valid_id(options.id))
        return std::unexpected(Error{"Parameter 'id' expects an identifier"}.with_hint(
            "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."));
    if (all().contains(options.id))
        return fail("attempt to add duplicate property '{}' to object (type 'container')", options.id);
    switch (options.type) {
        case ObjectType::IoThread:
            return add_iothread(options.id, options.iothread);
        case ObjectType::Secret:
            return add_secret(options.id, std::move(options.secret));
        case ObjectType::ThrottleGroup:
            break;
    }
    auto group = throttle_groups_.add_object(options.id, options.throttle_group);
    if (!group)
        return std::unexpected(std::move(group.error()));
    return {};
}

std::map<std::string, ObjectType, std::less<>> UserObjects::all() const {
    std::map<std::string, ObjectType, std::less<>> objects;
    for (const auto& [id, thread] : threads_)
        objects[id] = ObjectType::IoThread;
    for (const auto& [id, secret] : secrets_.all())
        objects[id] = ObjectType::Secret;
    for (const std::string& id : throttle_groups_.object_names())
        objects[id] = ObjectType::ThrottleGroup;
    return objects;
}

Result<void> UserObjects::add_iothread(const std::string& id, const IoThreadOptions& options) {
    PollParameters parameters{.grow = options.poll_grow, .shrink = options.poll_shrink};
    parameters.max_ns = options.poll_max_ns.value_or(parameters.max_ns);
    if (auto valid = check_poll_parameters(parameters); !valid)
        return valid;
    auto thread = IOThread::create(id);
    if (!thread)
        return std::unexpected(std::move(thread.error()));
    (*thread)->context().set_poll_parameters(parameters);
    threads_[id].thread = std::move(*thread);
    return {};
}

Result<void> UserObjects::add_secret(const std::string& id, SecretOptions options) {
    if (options.keyid && !secrets_.find(*options.keyid) && all().contains(*options.keyid))
        return fail("Object with id '{}' is not a secret", *options.keyid);
    return secrets_.add(id, std::move(options));
}

Result<void> UserObjects::remove(std::string_view id) {
    if (auto it = threads_.find(id); it != threads_.end()) {
        if (it->second.users > 0)
            return fail("object '{}' is in use, can not be deleted", id);
        threads_.erase(it);
        return {};
    }
    if (secrets_.find(id)) {
        secrets_.remove(id);
        return {};
    }
    return throttle_groups_.remove_object(std::string(id));
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

const ObjectProperty* find_property(const ObjectProperties& properties, std::string_view name) {
    auto it = std::ranges::find(properties.list, name, &ObjectProperty::name);
    return it == properties.list.end() ? nullptr : &*it;
}

}  // namespace

Result<ObjectProperties> UserObjects::find(std::string_view path) const {
    std::string_view id = path;
    if (id.starts_with(kFolder) && id.substr(kFolder.size()).starts_with('/'))
        id.remove_prefix(kFolder.size() + 1);
    if (auto it = threads_.find(id); it != threads_.end())
        return properties_of(*it->second.thread);
    if (const Secret* secret = secrets_.find(id))
        return properties_of(*secret);
    if (std::string name(id); throttle_groups_.is_object(name))
        return properties_of(throttle_groups_.find(name));
    return std::unexpected(Error{fmt::format("Device '{}' not found", path)}.with_class(ErrorClass::DeviceNotFound));
}

Result<std::vector<UserObjects::Property>> UserObjects::list(std::string_view path) const {
    std::vector<Property> properties{{"type", "string"}};
    if (path == kFolder) {
        for (const auto& [id, type] : all())
            properties.push_back({id, fmt::format("child<{}>", enum_name(type))});
        return properties;
    }
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    for (const ObjectProperty& property : found->list)
        properties.push_back({std::string(property.name), std::string(property.type)});
    return properties;
}

Result<JsonBox> UserObjects::get(std::string_view path, std::string_view property) const {
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    if (property == "type")
        return JsonBox(Json(found->type));
    if (const ObjectProperty* one = find_property(*found, property))
        return JsonBox(one->get());
    return fail("Property '{}.{}' not found", found->type, property);
}

Result<void> UserObjects::set(std::string_view path, std::string_view property, const Json& value) {
    auto found = find(path);
    if (!found)
        return std::unexpected(std::move(found.error()));
    const ObjectProperty* one = find_property(*found, property);
    if (!one && property != "type")
        return fail("Property '{}.{}' not found", found->type, property);
    if (!one || !one->set)
        return fail("Property '{}.{}' is not writable", found->type, property);
    return one->set(value);
}

// --- help ---

std::optional<std::string> object_help(std::string_view argument) {
    auto keyval = parse_keyval(argument, {.implied_key = "qom-type"});
    if (!is_help_request(argument) && (!keyval || !keyval->help))
        return std::nullopt;
    const Json* type = keyval ? json_find(keyval->options, "qom-type") : nullptr;
    const std::string* name = type ? json_string(*type) : nullptr;
    for (const OptionVariant& variant : ObjectOptions::options().variants())
        if (name && variant.value == *name)
            return variant.schema->help();
    std::string text = "List of user creatable objects:\n";
    for (const auto& entry : enum_names(ObjectType{}))
        text += fmt::format("  {}\n", entry.name);
    return text;
}

}  // namespace ashlar

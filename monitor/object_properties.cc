#include "monitor/object_properties.h"

#include "util/options.h"

namespace ashlar {

namespace {

struct PollParameter {
    std::string_view name;
    int64_t PollParameters::* member;
};

constexpr PollParameter kPollParameters[] = {
    {"poll-max-ns", &PollParameters::max_ns},
    {"poll-grow", &PollParameters::grow},
    {"poll-shrink", &PollParameters::shrink},
};

Result<void> set_poll_parameter(AioContext& context, const PollParameter& parameter, const Json& value) {
    auto parameters = context.poll_parameters();
    if (auto read =
            OptionTraits<int64_t>::read(parameters.*parameter.member, value, OptionPlace{}.member(parameter.name));
        !read)
        return read;
    if (auto valid = check_poll_parameters(parameters); !valid)
        return valid;
    context.set_poll_parameters(parameters);
    return {};
}

Result<void> set_limits(ThrottleGroup& group, const Json& value) {
    auto limits = ThrottleLimits::options().parse(value, Typing::Strict);
    if (!limits)
        return std::unexpected(std::move(limits.error()));
    auto config = limits->to_config(group.config());
    if (!config)
        return std::unexpected(std::move(config.error()));
    group.set_config(*config);
    return {};
}

}  // namespace

Result<void> check_poll_parameters(const PollParameters& parameters) {
    for (const PollParameter& parameter : kPollParameters)
        if (parameters.*parameter.member < 0)
            return fail("{} value must be in range [0, {}]", parameter.name, INT64_MAX);
    return {};
}

ObjectProperties properties_of(IOThread& thread) {
    ObjectProperties properties{"iothread", {}};
    AioContext& context = thread.context();
    for (const PollParameter& parameter : kPollParameters)
        properties.list.push_back(
            {parameter.name, "int",
             [&context, member = parameter.member] { return Json(context.poll_parameters().*member); },
             [&context, &parameter](const Json& value) { return set_poll_parameter(context, parameter, value); }});
    return properties;
}

ObjectProperties properties_of(std::shared_ptr<ThrottleGroup> group) {
    return {"throttle-group",
            {{"limits", "ThrottleLimits",
              [group] { return ThrottleLimits::options().to_json(ThrottleLimits::from_config(group->config())); },
              [group](const Json& value) { return set_limits(*group, value); }}}};
}

ObjectProperties properties_of(const Secret& secret) {
    const SecretOptions& o = secret.options;
    return {"secret",
            {{"format", "QCryptoSecretFormat", [&o] { return Json(enum_name(o.format)); }},
             {"file", "string", [&o] { return Json(o.file.value_or("")); }},
             {"keyid", "string", [&o] { return Json(o.keyid.value_or("")); }},
             {"iv", "string", [&o] { return Json(o.iv.value_or("")); }},
             {"loaded", "bool", [] { return Json(true); }}}};
}

}  // namespace ashlar

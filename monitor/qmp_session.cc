#include "monitor/qmp_session.h"

#include "monitor/version.h"
#include "util/json.h"

namespace ashlar {

namespace {

constexpr std::string_view kNegotiate = "qmp_capabilities";

std::string_view class_name(ErrorClass error_class) {
    switch (error_class) {
        case ErrorClass::Generic:
            return "GenericError";
        case ErrorClass::CommandNotFound:
            return "CommandNotFound";
        case ErrorClass::DeviceNotActive:
            return "DeviceNotActive";
        case ErrorClass::DeviceNotFound:
            return "DeviceNotFound";
        case ErrorClass::KVMMissingCap:
            return "KVMMissingCap";
    }
    return "GenericError";
}

Json error_response(const Error& error) {
    std::string text = error.message;
    if (!error.hint.empty())
        text += "\n" + error.hint;
    return {{"error", {{"class", class_name(error.error_class)}, {"desc", text}}}};
}

std::unexpected<Error> command_not_found(std::string message) {
    return std::unexpected(Error{std::move(message)}.with_class(ErrorClass::CommandNotFound));
}

Result<void> check_request(const Json& request) {
    for (const auto& [key, value] : request.items()) {
        if (key == "execute") {
            if (!value.is_string())
                return fail("QMP input member 'execute' must be a string");
        } else if (key == "arguments") {
            if (!value.is_object())
                return fail("QMP input member 'arguments' must be an object");
        } else if (key != "id") {
            return fail("QMP input member '{}' is unexpected", key);
        }
    }
    if (!request.contains("execute"))
        return fail("QMP input lacks member 'execute'");
    return {};
}

}  // namespace

Json QmpSession::greeting() {
    return {{"QMP", {{"version", VersionInfo::options().to_json(version_info())}, {"capabilities", Json::array()}}}};
}

Task<Result<JsonBox>> QmpSession::dispatch(const Json& request) {
    if (auto checked = check_request(request); !checked)
        co_return std::unexpected(std::move(checked.error()));
    static const Json kNoArguments = Json::object();
    const std::string& name = *json_string(request["execute"]);
    const Json* given = json_find(request, "arguments");
    const Json& arguments = given ? *given : kNoArguments;

    if (!negotiated_ && name != kNegotiate)
        co_return command_not_found(fmt::format("Expecting capabilities negotiation with '{}'", kNegotiate));
    if (negotiated_ && name == kNegotiate)
        co_return command_not_found("Capabilities negotiation is already complete, command ignored");
    const QmpCommand* command = commands_.find(name);
    if (!command)
        co_return command_not_found(fmt::format("The command {} has not been found", name));
    auto result = co_await command->run(arguments);
    negotiated_ = negotiated_ || result.has_value();
    co_return result;
}

Task<Json> QmpSession::execute(Result<Json> request) {
    if (!request)
        co_return error_response(request.error());
    if (!request->is_object())
        co_return error_response(Error{"QMP input must be a JSON object"});
    const Json* id = json_find(*request, "id");
    auto result = co_await dispatch(*request);
    Json response;
    if (!result) {
        if (id)
            response["id"] = *id;
        response.update(error_response(result.error()));
        co_return response;
    }
    response["return"] = result->has_value() ? **result : Json::object();
    if (id)
        response["id"] = *id;
    co_return response;
}

}  // namespace ashlar

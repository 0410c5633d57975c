#include "monitor/qmp_commands.h"

#include "monitor/qmp_schema.h"
#include "util/json.h"

#include <algorithm>
#include <cassert>

namespace ashlar {

namespace {

// What a client may ask to be enabled. QEMU's only one, out-of-band execution, is not offered.
enum class QmpCapability : uint8_t { Oob };
constexpr auto enum_names(QmpCapability) {
    return std::to_array<EnumName<QmpCapability>>({{QmpCapability::Oob, "oob"}});
}

struct CapabilitiesArgs {
    std::vector<QmpCapability> enable;

    static const OptionSet<CapabilitiesArgs>& options() {
        static const auto set = OptionSet<CapabilitiesArgs>("qmp_capabilities")
                                    .optional("enable", &CapabilitiesArgs::enable, "capabilities to enable");
        return set;
    }
};

// The session takes note of its success.
Task<Result<void>> qmp_capabilities(const QmpCommands&, CapabilitiesArgs args) {
    if (!args.enable.empty())
        co_return fail("Capability '{}' is not available", enum_name(args.enable[0]));
    co_return Result<void>();
}

struct CommandInfo {
    std::string name;

    static const OptionSet<CommandInfo>& options() {
        static const auto set =
            OptionSet<CommandInfo>("CommandInfo").required("name", &CommandInfo::name, "of the command");
        return set;
    }
};

Task<Result<std::vector<CommandInfo>>> query_commands(const QmpCommands& commands) {
    std::vector<CommandInfo> list;
    for (const QmpCommand& command : commands.commands())
        list.push_back({command.name});
    co_return list;
}

Task<Result<JsonBox>> query_qmp_schema(const QmpCommands& commands) {
    co_return make_qmp_schema(commands);
}

}  // namespace

JsonBox copy_json(const Json& value) {
    return JsonBox(value);
}

JsonBox box_json(const std::function<void(Json&)>& write) {
    Json value;
    write(value);
    return JsonBox(std::move(value));
}

QmpCommands::QmpCommands() {
    add("qmp_capabilities", std::as_const(*this), qmp_capabilities);
    add("query-commands", std::as_const(*this), query_commands);
    add("query-qmp-schema", std::as_const(*this), query_qmp_schema).result =
        &OptionTraits<std::vector<SchemaInfo>>::kType;
}

QmpCommand& QmpCommands::add(QmpCommand command) {
    assert(!find(command.name));
    return commands_.emplace_back(std::move(command));
}

const QmpCommand* QmpCommands::find(std::string_view name) const {
    auto it = std::find_if(commands_.begin(), commands_.end(), [&](const QmpCommand& c) { return c.name == name; });
    return it == commands_.end() ? nullptr : &*it;
}

Result<void> QmpCommands::reject_arguments(const Json& arguments) {
    if (!arguments.empty())
        return fail("Parameter '{}' is unexpected", arguments.begin().key());
    return {};
}

Task<Result<JsonBox>> QmpCommands::refuse(Error error) {
    co_return std::unexpected(std::move(error));
}

}  // namespace ashlar

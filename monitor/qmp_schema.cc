#include "monitor/qmp_schema.h"

#include "monitor/qmp_commands.h"
#include "util/json.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace ashlar {

namespace {

class SchemaWriter {
public:
    explicit SchemaWriter(const QmpCommands& commands) : commands_(commands) {}

    Json write() {
        for (const QmpCommand& command : commands_.commands()) {
            Json info = {{"name", command.name},
                         {"ret-type", name_of(command.result)},
                         {"meta-type", "command"},
                         {"arg-type", name_of(command.arguments)}};
            mark_deprecated(info, command.deprecated);
            out_.push_back(std::move(info));
        }
        for (const QmpEventInfo& event : commands_.events())
            out_.push_back({{"name", event.name}, {"meta-type", "event"}, {"arg-type", name_of(event.data)}});
        // Describing one type may find others.
        for (; described_ < pending_.size(); ++described_)
            out_.push_back(describe(pending_[described_]));
        return std::move(out_);
    }

private:
    struct Type {
        enum Kind : uint8_t { Builtin, Empty, Object, Blockdev, Enum, Array, Alternate };
        Kind kind = Empty;
        const void* identity = nullptr;
        std::string detail = {};  // Builtin: its JSON type; Array: its element's name; Alternate: whether null is one
        const OptionType* type = nullptr;
        const OptionSchema* object = nullptr;

        auto key() const { return std::tuple(kind, identity, detail); }
    };

    static void mark_deprecated(Json& info, bool deprecated) {
        if (deprecated)
            info["features"] = Json::array({"deprecated"});
    }

    std::string use(Type type, std::string fixed_name = {}) {
        auto [it, is_new] = names_.try_emplace(type.key());
        if (is_new) {
            it->second = fixed_name.empty() ? std::to_string(next_++) : std::move(fixed_name);
            type.detail = std::get<2>(it->first);
            pending_.push_back(std::move(type));
            named_.push_back(it->second);
        }
        return it->second;
    }

    std::string use_builtin(std::string name, std::string json_type) {
        return use({.kind = Type::Builtin, .detail = std::move(json_type)}, std::move(name));
    }

    std::string use_object(const OptionSchema& schema) {
        if (schema.options().empty() && schema.variants().empty())
            return use({.kind = Type::Empty});
        return use({.kind = Type::Object, .identity = &schema, .object = &schema});
    }

    // The name of a type; `type` null: that of the empty object.
    std::string name_of(const OptionType* type) {
        if (!type)
            return use({.kind = Type::Empty});
        switch (type->kind) {
            case OptionKind::Bool:
                return use_builtin("bool", "boolean");
            case OptionKind::Int:
            case OptionKind::Size:
                return use_builtin("int", "int");
            case OptionKind::Number:
                return use_builtin("number", "number");
            case OptionKind::String:
                return use_builtin("str", "string");
            case OptionKind::Any:
                if (type->object)  // or a string
                    return use({.kind = Type::Alternate, .identity = &type->object(), .object = &type->object()});
                return use_builtin("any", "value");
            case OptionKind::Enum:
                return use({.kind = Type::Enum, .identity = type->values.data(), .type = type});
            case OptionKind::Object:
                return use_object(type->object());
            case OptionKind::List: {
                std::string element = name_of(type->element);
                return use({.kind = Type::Array, .detail = element}, "[" + element + "]");
            }
            case OptionKind::BlockdevRef:
                return use({.kind = Type::Alternate, .detail = "reference"});
            case OptionKind::BlockdevRefOrNull:
                return use({.kind = Type::Alternate, .detail = "reference or null"});
            case OptionKind::BlockdevDefinition:
                return use({.kind = Type::Blockdev});
        }
        return {};
    }

    Json describe(const Type& found) {
        Type type = found;  // pending_ grows meanwhile
        Json info = {{"name", named_[described_]}};
        switch (type.kind) {
            case Type::Builtin:
                info["json-type"] = type.detail;
                info["meta-type"] = "builtin";
                break;
            case Type::Empty:
                info["members"] = Json::array();
                info["meta-type"] = "object";
                break;
            case Type::Enum:
                info["members"] = Json::array();
                info["meta-type"] = "enum";
                info["values"] = Json::array();
                for (std::string_view value : type.type->values) {
                    info["members"].push_back({{"name", value}});
                    info["values"].push_back(value);
                }
                break;
            case Type::Array:
                info["element-type"] = type.detail;
                info["meta-type"] = "array";
                break;
            case Type::Alternate:
                info["members"] = Json::array();
                info["members"].push_back(
                    {{"type", type.object ? use_object(*type.object) : use({.kind = Type::Blockdev})}});
                info["members"].push_back({{"type", use_builtin("str", "string")}});
                if (type.detail.ends_with("null"))
                    info["members"].push_back({{"type", use_builtin("null", "null")}});
                info["meta-type"] = "alternate";
                break;
            case Type::Object:
                describe_object(info, *type.object);
                break;
            case Type::Blockdev:
                describe_blockdev(info, commands_.blockdev_type());
                break;
        }
        return info;
    }

    void describe_members(Json& info, const OptionSchema& schema, std::string_view except = {}) {
        for (const OptionInfo& option : schema.options()) {
            if (option.name == except)
                continue;
            Json member = {{"name", option.name}};
            if (!option.required)
                member["default"] = nullptr;
            member["type"] = name_of(option.type);
            mark_deprecated(member, !option.deprecated.empty());
            info["members"].push_back(std::move(member));
        }
    }

    // Every value of the tag is a case, with no more options if nothing else is said.
    void describe_variants(Json& info, const std::string& tag, const OptionType& tag_type,
                           std::span<const OptionVariant> variants) {
        info["tag"] = tag;
        info["variants"] = Json::array();
        for (std::string_view value : tag_type.values) {
            auto it = std::find_if(variants.begin(), variants.end(), [&](const auto& v) { return v.value == value; });
            std::string type = it == variants.end() ? name_of(nullptr) : use_object(*it->schema);
            info["variants"].push_back({{"case", value}, {"type", type}});
        }
    }

    void describe_object(Json& info, const OptionSchema& schema) {
        info["members"] = Json::array();
        describe_members(info, schema);
        if (const OptionInfo* tag = schema.tag())
            describe_variants(info, tag->name, *tag->type, schema.variants());
        info["meta-type"] = "object";
    }

    // The tag is an enum of the drivers that there are.
    void describe_blockdev(Json& info, const QmpCommands::BlockdevType& blockdev) {
        for (const OptionVariant& driver : blockdev.drivers)
            driver_names_.push_back(driver.value);
        driver_type_ = {.kind = OptionKind::Enum, .values = driver_names_};
        info["members"] = Json::array();
        info["members"].push_back({{"name", blockdev.tag}, {"type", name_of(&driver_type_)}});
        if (blockdev.common)
            describe_members(info, *blockdev.common, blockdev.tag);
        describe_variants(info, blockdev.tag, driver_type_, blockdev.drivers);
        info["meta-type"] = "object";
    }

    const QmpCommands& commands_;
    Json out_ = Json::array();
    std::map<std::tuple<Type::Kind, const void*, std::string>, std::string> names_;
    std::vector<Type> pending_;
    std::vector<std::string> named_;  // parallel to pending_
    size_t described_ = 0;
    unsigned next_ = 0;
    std::vector<std::string_view> driver_names_;
    OptionType driver_type_{OptionKind::Enum};
};

}  // namespace

JsonBox make_qmp_schema(const QmpCommands& commands) {
    return JsonBox(SchemaWriter(commands).write());
}

}  // namespace ashlar

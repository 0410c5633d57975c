// query-qmp-schema: what QMP's commands, events and types look like, from their declarations.
//
// The shape is QEMU's qapi/introspect.json. Every type is described once, under a name that only links it: names are
// masked by numbers, given in the order in which types are first met, because a client must not rely on what the server
// calls its types.
#pragma once

#include "util/options.h"

namespace ashlar {

class QmpCommands;

struct SchemaMember {
    std::string name;
    std::string type;
    std::optional<JsonBox> default_value;  // null where there may be any
    std::vector<std::string> features;

    static const OptionSet<SchemaMember>& options();
};

struct SchemaEnumValue {
    std::string name;

    static const OptionSet<SchemaEnumValue>& options();
};

struct SchemaVariant {
    std::string value;
    std::string type;

    static const OptionSet<SchemaVariant>& options();
};

struct SchemaAlternative {
    std::string type;

    static const OptionSet<SchemaAlternative>& options();
};

enum class SchemaMetaType : uint8_t { Builtin, Enum, Array, Object, Alternate, Command, Event };
constexpr auto enum_names(SchemaMetaType) {
    return std::to_array<EnumName<SchemaMetaType>>({
        {SchemaMetaType::Builtin, "builtin"},
        {SchemaMetaType::Enum, "enum"},
        {SchemaMetaType::Array, "array"},
        {SchemaMetaType::Object, "object"},
        {SchemaMetaType::Alternate, "alternate"},
        {SchemaMetaType::Command, "command"},
        {SchemaMetaType::Event, "event"},
    });
}

enum class SchemaJsonType : uint8_t { String, Number, Int, Boolean, Null, Object, Array, Value };
constexpr auto enum_names(SchemaJsonType) {
    return std::to_array<EnumName<SchemaJsonType>>({
        {SchemaJsonType::String, "string"},
        {SchemaJsonType::Number, "number"},
        {SchemaJsonType::Int, "int"},
        {SchemaJsonType::Boolean, "boolean"},
        {SchemaJsonType::Null, "null"},
        {SchemaJsonType::Object, "object"},
        {SchemaJsonType::Array, "array"},
        {SchemaJsonType::Value, "value"},
    });
}

struct SchemaInfo {
    struct Builtin {
        SchemaJsonType json_type = SchemaJsonType::Value;
        static const OptionSet<Builtin>& options();
    };
    struct Enum {
        std::vector<SchemaEnumValue> members;
        std::vector<std::string> values;
        static const OptionSet<Enum>& options();
    };
    struct Array {
        std::string element_type;
        static const OptionSet<Array>& options();
    };
    struct Object {
        std::vector<SchemaMember> members;
        std::optional<std::string> tag;
        std::optional<std::vector<SchemaVariant>> variants;
        static const OptionSet<Object>& options();
    };
    struct Alternate {
        std::vector<SchemaAlternative> members;
        static const OptionSet<Alternate>& options();
    };
    struct Command {
        std::string arg_type, ret_type;
        static const OptionSet<Command>& options();
    };
    struct Event {
        std::string arg_type;
        static const OptionSet<Event>& options();
    };

    std::string name;
    std::optional<std::vector<std::string>> features;
    SchemaMetaType meta_type = SchemaMetaType::Builtin;
    Builtin builtin;
    Enum enumeration;
    Array array;
    Object object;
    Alternate alternate;
    Command command;
    Event event;

    static const OptionSet<SchemaInfo>& options();
};

// A list of SchemaInfo. (As JSON, in which a `default` of null is not the same as none.)
JsonBox make_qmp_schema(const QmpCommands& commands);

}  // namespace ashlar

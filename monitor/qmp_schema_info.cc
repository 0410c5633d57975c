#include "monitor/qmp_schema.h"

namespace ashlar {

const OptionSet<SchemaMember>& SchemaMember::options() {
    using Member = SchemaMember;
    static const auto set = OptionSet<Member>("SchemaInfoObjectMember")
                                .required("name", &Member::name, "of the member")
                                .required("type", &Member::type, "name of its type")
                                .optional("default", &Member::default_value, "there if the member is optional")
                                .optional("features", &Member::features, "what is special about it");
    return set;
}

const OptionSet<SchemaEnumValue>& SchemaEnumValue::options() {
    static const auto set =
        OptionSet<SchemaEnumValue>("SchemaInfoEnumMember").required("name", &SchemaEnumValue::name, "of the value");
    return set;
}

const OptionSet<SchemaVariant>& SchemaVariant::options() {
    static const auto set = OptionSet<SchemaVariant>("SchemaInfoObjectVariant")
                                .required("case", &SchemaVariant::value, "value of the tag")
                                .required("type", &SchemaVariant::type, "object whose members go on there");
    return set;
}

const OptionSet<SchemaAlternative>& SchemaAlternative::options() {
    static const auto set = OptionSet<SchemaAlternative>("SchemaInfoAlternateMember")
                                .required("type", &SchemaAlternative::type, "one of the types");
    return set;
}

const OptionSet<SchemaInfo::Builtin>& SchemaInfo::Builtin::options() {
    static const auto set =
        OptionSet<Builtin>("SchemaInfoBuiltin").required("json-type", &Builtin::json_type, "how JSON writes it");
    return set;
}

const OptionSet<SchemaInfo::Enum>& SchemaInfo::Enum::options() {
    static const auto set = OptionSet<Enum>("SchemaInfoEnum")
                                .required("members", &Enum::members, "the values")
                                .required("values", &Enum::values, "their names alone");
    return set;
}

const OptionSet<SchemaInfo::Array>& SchemaInfo::Array::options() {
    static const auto set =
        OptionSet<Array>("SchemaInfoArray").required("element-type", &Array::element_type, "type of an element");
    return set;
}

const OptionSet<SchemaInfo::Object>& SchemaInfo::Object::options() {
    static const auto set = OptionSet<Object>("SchemaInfoObject")
                                .required("members", &Object::members, "what every case has")
                                .optional("tag", &Object::tag, "the member that says which case it is")
                                .optional("variants", &Object::variants, "the cases");
    return set;
}

const OptionSet<SchemaInfo::Alternate>& SchemaInfo::Alternate::options() {
    static const auto set = OptionSet<Alternate>("SchemaInfoAlternate")
                                .required("members", &Alternate::members, "types of which one is there");
    return set;
}

const OptionSet<SchemaInfo::Command>& SchemaInfo::Command::options() {
    static const auto set = OptionSet<Command>("SchemaInfoCommand")
                                .required("arg-type", &Command::arg_type, "its arguments")
                                .required("ret-type", &Command::ret_type, "its result");
    return set;
}

const OptionSet<SchemaInfo::Event>& SchemaInfo::Event::options() {
    static const auto set =
        OptionSet<Event>("SchemaInfoEvent").required("arg-type", &Event::arg_type, "what comes with it");
    return set;
}

const OptionSet<SchemaInfo>& SchemaInfo::options() {
    using Info = SchemaInfo;
    static const auto set = OptionSet<Info>("SchemaInfo")
                                .required("name", &Info::name, "of the command, event or type")
                                .optional("features", &Info::features, "what is special about it")
                                .required("meta-type", &Info::meta_type, "what it is")
                                .variant("builtin", &Info::builtin)
                                .variant("enum", &Info::enumeration)
                                .variant("array", &Info::array)
                                .variant("object", &Info::object)
                                .variant("alternate", &Info::alternate)
                                .variant("command", &Info::command)
                                .variant("event", &Info::event);
    return set;
}

}  // namespace ashlar

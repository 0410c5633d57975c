// Options declared once: a struct, and the OptionSet that says what its members are called.
//
//     struct RawOptions {
//         Size offset;
//         std::optional<Size> size;
//         BlockdevRef file;
//
//         static const OptionSet<RawOptions>& options() {
//             static const auto set = OptionSet<RawOptions>("raw")
//                 .optional("offset", &RawOptions::offset, "where the disk begins in the file")
//                 .optional("size", &RawOptions::size, "size of the disk (default: what follows the offset)")
//                 .required("file", &RawOptions::file, "the file");
//             return set;
//         }
//     };
//     auto options = RawOptions::options().parse(tree, typing);      // Result<RawOptions>
//
// That gives parsing with all checks, from key=value and from JSON; the defaults, which are the members' initialisers;
// `help`; serialisation; and, through OptionSchema, the description from which query-qmp-schema is made.
//
// A union, as QMP has them, is a set in which one enum says which of several other sets goes on where it ends:
//
//     .required("type", &Address::type, "the family")
//     .variant("inet", &Address::inet)
//     .variant("unix", &Address::unix)
//
// A std::shared_ptr is an optional that may hold the set that it is in.
//
// Members are bool, integers, double, Size, std::string, enums with enum_names(), structs with options(), JsonBox,
// BlockdevRef(OrNull), BlockdevDefinition, and std::vector, std::optional or std::shared_ptr of these. Without an
// initialiser of its own an optional() member that should be told from "not given" is a std::optional.
//
// Sets are immutable once built, and usable from any thread. Errors name the option by its full path:
// "limits.iops-total".
#pragma once

#include "util/blockdev_ref.h"
#include "util/enum_names.h"
#include "util/error.h"
#include "util/json_box.h"
#include "util/json_fwd.h"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ashlar {

// A number of bytes, which key=value may write with a suffix: 64k, 1.5G (util/size.h).
struct Size {
    uint64_t bytes = 0;
    constexpr operator uint64_t() const { return bytes; }
};

class OptionSchema;

enum class OptionKind : uint8_t {
    Bool,
    Int,
    Size,
    Number,
    String,
    Enum,
    Object,
    List,
    BlockdevRef,
    BlockdevRefOrNull,
    BlockdevDefinition,
    Any
};

struct OptionType {
    OptionKind kind;
    std::span<const std::string_view> values = {};  // Enum: the names
    const OptionSchema& (*object)() = nullptr;      // Object; a function because declarations may be recursive
    const OptionType* element = nullptr;            // List

    std::string name() const;  // as help prints it: "int", "raw|qcow2", "list of string"
};

struct OptionInfo {
    std::string name;
    const OptionType* type;
    bool required;
    std::string help;
    JsonBox default_value = {};             // of scalars that are not required and have one
    std::vector<std::string> aliases = {};  // other names that are accepted
    std::string deprecated = {};            // not empty: what to do instead

    bool is_called(std::string_view key) const;
};

// One case of a union.
struct OptionVariant {
    std::string value;  // of the tag
    const OptionSchema* schema;
};

// Where a value is in the tree that is being read, for messages; a chain on the stack.
struct OptionPlace {
    const OptionPlace* parent = nullptr;
    std::string_view key = {};
    size_t index = 0;  // when `key` is empty: of a list's element
    Typing typing = Typing::Strict;

    OptionPlace member(std::string_view name) const { return {this, name, 0, typing}; }
    OptionPlace element(size_t i) const { return {this, {}, i, typing}; }
    std::string path() const;
};

// What is known of a set whatever struct it fills.
class OptionSchema {
public:
    const std::string& name() const { return name_; }
    std::span<const OptionInfo> options() const { return options_; }
    const OptionInfo* find(std::string_view key) const;  // by name or alias
    const OptionInfo* tag() const { return variants_.empty() ? nullptr : &options_[tag_]; }
    std::span<const OptionVariant> variants() const { return variants_; }
    std::string help() const;  // "iothread options:\n  poll-max-ns=<int>   - ...\n"

    // Success when `rest` is empty, else the error for its first key: "Parameter 'fo' is unexpected (did you mean
    // ...)". `object`: the struct that was read, whose variant's names may be meant as well.
    Result<void> reject_rest(const Json& rest, const OptionPlace& at = {}, const void* object = nullptr) const;

protected:
    using Reader = std::function<Result<void>(void*, const Json&, const OptionPlace&)>;
    using Writer = std::function<void(const void*, Json&)>;  // leaves null what is not set
    struct Access {
        Reader read;
        Writer write;
    };

    explicit OptionSchema(std::string_view name) : name_(name) {}
    void add(OptionInfo info, Access access);
    static JsonBox box_default(const OptionType& type, const std::function<void(Json&)>& write);

    // Fills `object` from the members of `dict` that the set knows, and removes them there.
    Result<void> take_members(void* object, Json& dict, const OptionPlace& at) const;
    Result<void> parse_members(void* object, const Json& value, const OptionPlace& at) const;
    void write_members(const void* object, Json& out) const;

    std::string name_;
    std::vector<OptionInfo> options_;
    std::vector<Access> accesses_;  // parallel to options_

    void add_variant(std::string_view value, const OptionSchema& schema, std::function<void*(void*)> locate);
    std::optional<size_t> chosen_variant(const void* object) const;
    size_t tag_ = 0;
    std::vector<OptionVariant> variants_;
    std::vector<std::function<void*(void*)>> locations_;  // parallel to variants_: its member of the object

    template <class>
    friend class OptionSet;
    template <class>
    friend struct OptionTraits;
};

template <class T>
class OptionSet;

// A struct that carries its declaration. (Not spelled with OptionSet<T>'s members: T may be incomplete here.)
template <class T>
concept HasOptions = requires {
    { T::options() } -> std::convertible_to<const OptionSet<T>&>;
};

// Reading and writing of one type of member. The basic types' are in options.cc.
Result<void> read_option(bool& out, const Json& value, const OptionPlace& at);
Result<void> read_option(double& out, const Json& value, const OptionPlace& at);
Result<void> read_option(Size& out, const Json& value, const OptionPlace& at);
Result<void> read_option(std::string& out, const Json& value, const OptionPlace& at);
Result<void> read_option(JsonBox& out, const Json& value, const OptionPlace& at);
Result<void> read_option(BlockdevRef& out, const Json& value, const OptionPlace& at);
Result<void> read_option(BlockdevRefOrNull& out, const Json& value, const OptionPlace& at);
Result<void> read_option(BlockdevDefinition& out, const Json& value, const OptionPlace& at);
Result<int64_t> read_signed(const Json& value, int64_t min, int64_t max, const OptionPlace& at);
Result<uint64_t> read_unsigned(const Json& value, uint64_t max, const OptionPlace& at);
Result<size_t> read_enum(const Json& value, std::span<const std::string_view> names, const OptionPlace& at);
Result<void> read_list(const Json& value, const OptionPlace& at,
                       const std::function<Result<void>(const Json&, const OptionPlace&)>& read_element);

void write_option(bool value, Json& out);
void write_option(double value, Json& out);
void write_option(Size value, Json& out);
void write_option(int64_t value, Json& out);
void write_option(uint64_t value, Json& out);
void write_option(std::string_view value, Json& out);
void write_option(const JsonBox& value, Json& out);
void write_option(const BlockdevRef& value, Json& out);
void write_list(size_t size, Json& out, const std::function<void(size_t, Json&)>& write_element);

template <class T>
struct OptionTraits;

template <class T, OptionKind Kind>
struct BasicOptionTraits {
    static constexpr OptionType kType{Kind};
    static Result<void> read(T& out, const Json& value, const OptionPlace& at) { return read_option(out, value, at); }
    static void write(const T& value, Json& out) { write_option(value, out); }
};

template <>
struct OptionTraits<bool> : BasicOptionTraits<bool, OptionKind::Bool> {};
template <>
struct OptionTraits<double> : BasicOptionTraits<double, OptionKind::Number> {};
template <>
struct OptionTraits<Size> : BasicOptionTraits<Size, OptionKind::Size> {};
template <>
struct OptionTraits<std::string> : BasicOptionTraits<std::string, OptionKind::String> {};
template <>
struct OptionTraits<JsonBox> : BasicOptionTraits<JsonBox, OptionKind::Any> {};
template <>
struct OptionTraits<BlockdevRef> : BasicOptionTraits<BlockdevRef, OptionKind::BlockdevRef> {};
template <>
struct OptionTraits<BlockdevRefOrNull> : BasicOptionTraits<BlockdevRefOrNull, OptionKind::BlockdevRefOrNull> {};

template <>
struct OptionTraits<BlockdevDefinition> : BasicOptionTraits<BlockdevDefinition, OptionKind::BlockdevDefinition> {};

template <std::integral T>
struct OptionTraits<T> {
    static constexpr OptionType kType{OptionKind::Int};
    static Result<void> read(T& out, const Json& value, const OptionPlace& at) {
        using Limits = std::numeric_limits<T>;
        if constexpr (std::is_signed_v<T>)
            return assign(out, read_signed(value, Limits::min(), Limits::max(), at));
        else
            return assign(out, read_unsigned(value, Limits::max(), at));
    }
    static void write(T value, Json& out) {
        write_option(std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>(value), out);
    }

private:
    template <class Wide>
    static Result<void> assign(T& out, Result<Wide> value) {
        if (!value)
            return std::unexpected(std::move(value.error()));
        out = static_cast<T>(*value);
        return {};
    }
};

template <NamedEnum T>
struct OptionTraits<T> {
    static constexpr auto kNames = [] {
        std::array<std::string_view, enum_names(T{}).size()> names;
        for (size_t i = 0; i < names.size(); ++i)
            names[i] = enum_names(T{})[i].name;
        return names;
    }();
    static constexpr OptionType kType{.kind = OptionKind::Enum, .values = kNames};
    static Result<void> read(T& out, const Json& value, const OptionPlace& at) {
        auto index = read_enum(value, kNames, at);
        if (!index)
            return std::unexpected(std::move(index.error()));
        out = enum_names(T{})[*index].value;
        return {};
    }
    static void write(T value, Json& out) { write_option(enum_name(value), out); }
};

template <HasOptions T>
struct OptionTraits<T> {
    static const OptionSchema& schema() { return T::options(); }
    static constexpr OptionType kType{.kind = OptionKind::Object, .object = &schema};
    static Result<void> read(T& out, const Json& value, const OptionPlace& at) {
        return schema().parse_members(&out, value, at);
    }
    static void write(const T& value, Json& out) { schema().write_members(&value, out); }
};

template <class T>
struct OptionTraits<std::vector<T>> {
    static constexpr OptionType kType{.kind = OptionKind::List, .element = &OptionTraits<T>::kType};
    static Result<void> read(std::vector<T>& out, const Json& value, const OptionPlace& at) {
        out.clear();
        return read_list(value, at, [&](const Json& element, const OptionPlace& place) {
            T one{};
            auto done = OptionTraits<T>::read(one, element, place);
            out.push_back(std::move(one));
            return done;
        });
    }
    static void write(const std::vector<T>& value, Json& out) {
        write_list(value.size(), out, [&](size_t i, Json& element) { OptionTraits<T>::write(value[i], element); });
    }
};

template <class T>
struct OptionTraits<std::optional<T>> {
    static constexpr const OptionType& kType = OptionTraits<T>::kType;
    static Result<void> read(std::optional<T>& out, const Json& value, const OptionPlace& at) {
        return OptionTraits<T>::read(out.emplace(), value, at);
    }
    static void write(const std::optional<T>& value, Json& out) {
        if (value)
            OptionTraits<T>::write(*value, out);
    }
};

template <class T>
struct OptionTraits<std::shared_ptr<T>> {
    static constexpr const OptionType& kType = OptionTraits<T>::kType;
    static Result<void> read(std::shared_ptr<T>& out, const Json& value, const OptionPlace& at) {
        out = std::make_shared<T>();
        return OptionTraits<T>::read(*out, value, at);
    }
    static void write(const std::shared_ptr<T>& value, Json& out) {
        if (value)
            OptionTraits<T>::write(*value, out);
    }
};

template <class T>
constexpr bool kIsStdOptional = false;
template <class T>
constexpr bool kIsStdOptional<std::optional<T>> = true;
template <class T>
constexpr bool kIsStdOptional<std::shared_ptr<T>> = true;

template <class T>
class OptionSet : public OptionSchema {
public:
    explicit OptionSet(std::string_view name) : OptionSchema(name) {}

    // May be left out: the member then keeps its initialiser.
    template <class M>
    OptionSet&& optional(std::string_view name, M T::* member, std::string_view help) && {
        OptionInfo info{std::string(name), &OptionTraits<M>::kType, false, std::string(help)};
        if constexpr (!kIsStdOptional<M>)
            info.default_value =
                box_default(*info.type, [member](Json& out) { OptionTraits<M>::write(T{}.*member, out); });
        return std::move(*this).add_member(std::move(info), member);
    }

    template <class M>
    OptionSet&& required(std::string_view name, M T::* member, std::string_view help) && {
        static_assert(!kIsStdOptional<M>, "what is required is always there");
        OptionInfo info{std::string(name), &OptionTraits<M>::kType, true, std::string(help)};
        return std::move(*this).add_member(std::move(info), member);
    }

    // Another name for the option declared last.
    OptionSet&& alias(std::string_view name) && {
        options_.back().aliases.emplace_back(name);
        return std::move(*this);
    }

    // The option declared last still works, with a warning that ends in `instead`: "use 'x'".
    OptionSet&& deprecated(std::string_view instead) && {
        options_.back().deprecated = instead;
        return std::move(*this);
    }

    // The options of member `member` as well when the option that was declared before the first variant, an enum, is
    // `value`.
    template <HasOptions M>
    OptionSet&& variant(std::string_view value, M T::* member) && {
        add_variant(value, M::options(),
                    [member](void* object) -> void* { return &(static_cast<T*>(object)->*member); });
        return std::move(*this);
    }

    // All options of a struct inside of this one, as if they were declared here.
    template <HasOptions B>
    OptionSet&& include(B T::* member) && {
        const OptionSchema& other = B::options();
        for (size_t i = 0; i < other.options_.size(); ++i) {
            const Access& access = other.accesses_[i];
            add(other.options_[i],
                {[member, read = access.read](void* object, const Json& value, const OptionPlace& at) {
                     return read(&(static_cast<T*>(object)->*member), value, at);
                 },
                 [member, write = access.write](const void* object, Json& out) {
                     write(&(static_cast<const T*>(object)->*member), out);
                 }});
        }
        return std::move(*this);
    }

    // Reads an object whose members must all be known.
    Result<T> parse(const Json& value, Typing typing) const {
        T object{};
        if (auto done = parse_members(&object, value, {.typing = typing}); !done)
            return std::unexpected(std::move(done.error()));
        return object;
    }

    // Reads the members of the object `dict` that this set knows, and leaves the others in it for another set.
    Result<T> take(Json& dict, Typing typing) const {
        T object{};
        if (auto done = take_members(&object, dict, {.typing = typing}); !done)
            return std::unexpected(std::move(done.error()));
        return object;
    }

    // An object of the members that are set. (A template only because Json is incomplete in this header.)
    template <class J = Json>
    J to_json(const T& object) const {
        J out;
        write_members(&object, out);
        return out;
    }

private:
    template <class M>
    OptionSet&& add_member(OptionInfo info, M T::* member) && {
        add(std::move(info), {[member](void* object, const Json& value, const OptionPlace& at) {
                                  return OptionTraits<M>::read(static_cast<T*>(object)->*member, value, at);
                              },
                              [member](const void* object, Json& out) {
                                  OptionTraits<M>::write(static_cast<const T*>(object)->*member, out);
                              }});
        return std::move(*this);
    }
};

}  // namespace ashlar

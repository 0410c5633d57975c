// QmpCommands: the commands that a QMP server has, each declared once.
//
//     struct ResizeArgs { ... static const OptionSet<ResizeArgs>& options(); };
//     Task<Result<void>> block_resize(Daemon& daemon, ResizeArgs args);
//     commands.add("block_resize", daemon, block_resize);
//
// From that come the check of the arguments, the dispatch and query-qmp-schema. The arguments are an option set or a
// BlockdevDefinition, or there are none; the result is whatever options can hold (util/options.h), or void.
//
// Built before the server starts, immutable then. Handlers run in the main context; a handler may suspend. The context
// outlives the table's use.
#pragma once

#include "util/options.h"
#include "util/task.h"

#include <deque>

namespace ashlar {

struct QmpCommand {
    std::string name;
    const OptionType* arguments = nullptr;  // null: none
    const OptionType* result = nullptr;     // null: none
    std::function<Task<Result<JsonBox>>(const Json& arguments)> run;
    bool deprecated = false;
};

struct QmpEventInfo {
    std::string name;
    const OptionType* data;  // null: none
};

// A kind of event, declared once: `constexpr QmpEvent<ShutdownData> kShutdown{"SHUTDOWN"};`
template <HasOptions Data>
struct QmpEvent {
    std::string_view name;
    bool rate_limited = false;  // to one a second among similar ones (qmp-spec, "Asynchronous events")
};

JsonBox box_json(const std::function<void(Json&)>& write);
JsonBox copy_json(const Json& value);

class QmpCommands {
public:
    QmpCommands();  // with qmp_capabilities, query-commands and query-qmp-schema
    QmpCommands(const QmpCommands&) = delete;

    template <class Context, class Args, class Ret>
    QmpCommand& add(std::string_view name, Context& context, Task<Result<Ret>> (*handler)(Context&, Args)) {
        auto run = [&context, handler](const Json& arguments) -> Task<Result<JsonBox>> {
            Args args{};
            if (auto read = OptionTraits<Args>::read(args, arguments, {}); !read)
                return refuse(std::move(read.error()));
            return box_result(handler(context, std::move(args)));
        };
        return add({std::string(name), &OptionTraits<Args>::kType, result_type<Ret>(), run});
    }

    template <class Context, class Ret>
    QmpCommand& add(std::string_view name, Context& context, Task<Result<Ret>> (*handler)(Context&)) {
        auto run = [&context, handler](const Json& arguments) -> Task<Result<JsonBox>> {
            if (auto none = reject_arguments(arguments); !none)
                return refuse(std::move(none.error()));
            return box_result(handler(context));
        };
        return add({std::string(name), nullptr, result_type<Ret>(), run});
    }

    // A command that takes more arguments than those that are declared, and checks them all itself.
    template <HasOptions Declared, class Context>
    QmpCommand& add_open(std::string_view name, Context& context,
                         Task<Result<void>> (*handler)(Context&, JsonBox arguments)) {
        auto run = [&context, handler](const Json& arguments) -> Task<Result<JsonBox>> {
            return box_result(handler(context, copy_json(arguments)));
        };
        return add({std::string(name), &OptionTraits<Declared>::kType, nullptr, run});
    }

    template <class Data>
    void add_event(const QmpEvent<Data>& event) {
        events_.push_back({std::string(event.name), &OptionTraits<Data>::kType});
    }

    const QmpCommand* find(std::string_view name) const;
    const std::deque<QmpCommand>& commands() const { return commands_; }
    const std::deque<QmpEventInfo>& events() const { return events_; }

    // What a BlockdevDefinition is: a set whose `tag` says which driver's options go on. For the schema.
    struct BlockdevType {
        const OptionSchema* common = nullptr;
        std::string tag = "driver";
        std::vector<OptionVariant> drivers;
    };
    void set_blockdev_type(BlockdevType type) { blockdev_ = std::move(type); }
    const BlockdevType& blockdev_type() const { return blockdev_; }

private:
    QmpCommand& add(QmpCommand command);
    static Result<void> reject_arguments(const Json& arguments);
    static Task<Result<JsonBox>> refuse(Error error);

    template <class Ret>
    static const OptionType* result_type() {
        if constexpr (std::is_void_v<Ret>)
            return nullptr;
        else
            return &OptionTraits<Ret>::kType;
    }

    template <class Ret>
    static Task<Result<JsonBox>> box_result(Task<Result<Ret>> command) {
        auto result = co_await std::move(command);
        if (!result)
            co_return std::unexpected(std::move(result.error()));
        if constexpr (std::is_void_v<Ret>)
            co_return JsonBox();
        else
            co_return box_json([&](Json& out) { OptionTraits<Ret>::write(*result, out); });
    }

    std::deque<QmpCommand> commands_;  // references to its elements stay valid
    std::deque<QmpEventInfo> events_;
    BlockdevType blockdev_;
};

}  // namespace ashlar

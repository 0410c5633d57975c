// Commands about objects: IOThreads, throttle groups and secrets.
#include "monitor/commands.h"
#include "monitor/daemon.h"

namespace ashlar {

namespace {

struct ObjectDelArgs {
    std::string id;

    static const OptionSet<ObjectDelArgs>& options() {
        static const auto set = OptionSet<ObjectDelArgs>("object-del").required("id", &ObjectDelArgs::id, "the object");
        return set;
    }
};

struct IoThreadInfo {
    std::string id;
    int64_t thread_id = 0;
    int64_t poll_max_ns = 0;
    int64_t poll_grow = 0;
    int64_t poll_shrink = 0;
    int64_t aio_max_batch = 0;  // 0: no limit

    static const OptionSet<IoThreadInfo>& options() {
        using Info = IoThreadInfo;
        static const auto set = OptionSet<Info>("IOThreadInfo")
                                    .required("id", &Info::id, "of the object")
                                    .required("thread-id", &Info::thread_id, "the kernel's number of the thread")
                                    .required("poll-max-ns", &Info::poll_max_ns, "how long it spins at most")
                                    .required("poll-grow", &Info::poll_grow, "by what that is multiplied, 0: 2")
                                    .required("poll-shrink", &Info::poll_shrink, "by what it is divided, 0: 2")
                                    .required("aio-max-batch", &Info::aio_max_batch, "0: no limit");
        return set;
    }
};

struct QomPathArgs {
    std::string path;

    static const OptionSet<QomPathArgs>& options() {
        static const auto set =
            OptionSet<QomPathArgs>("qom-list").required("path", &QomPathArgs::path, "/objects, /objects/ID or ID");
        return set;
    }
};

struct QomGetArgs {
    std::string path;
    std::string property;

    static const OptionSet<QomGetArgs>& options() {
        static const auto set = OptionSet<QomGetArgs>("qom-get")
                                    .required("path", &QomGetArgs::path, "/objects/ID or ID")
                                    .required("property", &QomGetArgs::property, "its name");
        return set;
    }
};

struct QomSetArgs {
    std::string path;
    std::string property;
    JsonBox value;

    static const OptionSet<QomSetArgs>& options() {
        static const auto set = OptionSet<QomSetArgs>("qom-set")
                                    .required("path", &QomSetArgs::path, "/objects/ID or ID")
                                    .required("property", &QomSetArgs::property, "its name")
                                    .required("value", &QomSetArgs::value, "what it is to be");
        return set;
    }
};

struct ObjectPropertyInfo {
    std::string name;
    std::string type;

    static const OptionSet<ObjectPropertyInfo>& options() {
        static const auto set = OptionSet<ObjectPropertyInfo>("ObjectPropertyInfo")
                                    .required("name", &ObjectPropertyInfo::name, "of the property")
                                    .required("type", &ObjectPropertyInfo::type, "of its value");
        return set;
    }
};

Task<Result<void>> object_add(Daemon& daemon, ObjectOptions options) {
    co_return daemon.objects().add(std::move(options));
}

Task<Result<void>> object_del(Daemon& daemon, ObjectDelArgs args) {
    co_return daemon.objects().remove(args.id);
}

Task<Result<std::vector<IoThreadInfo>>> query_iothreads(Daemon& daemon) {
    std::vector<IoThreadInfo> list;
    for (const IOThread* thread : daemon.objects().iothreads()) {
        const PollParameters polling = thread->context().poll_parameters();
        list.push_back({thread->id(), thread->thread_id(), polling.max_ns, polling.grow, polling.shrink});
    }
    co_return list;
}

Task<Result<std::vector<ObjectPropertyInfo>>> qom_list(Daemon& daemon, QomPathArgs args) {
    auto properties = daemon.objects().list(args.path);
    if (!properties)
        co_return std::unexpected(std::move(properties.error()));
    std::vector<ObjectPropertyInfo> list;
    for (auto& [name, type] : *properties)
        list.push_back({std::move(name), std::move(type)});
    co_return list;
}

Task<Result<JsonBox>> qom_get(Daemon& daemon, QomGetArgs args) {
    co_return daemon.objects().get(args.path, args.property);
}

Task<Result<void>> qom_set(Daemon& daemon, QomSetArgs args) {
    co_return daemon.objects().set(args.path, args.property, *args.value);
}

}  // namespace

void add_object_commands(QmpCommands& commands, Daemon& daemon) {
    commands.add("object-add", daemon, object_add);
    commands.add("object-del", daemon, object_del);
    commands.add("query-iothreads", daemon, query_iothreads);
    commands.add("qom-list", daemon, qom_list);
    commands.add("qom-get", daemon, qom_get);
    commands.add("qom-set", daemon, qom_set);
}

}  // namespace ashlar

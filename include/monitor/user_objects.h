// UserObjects: what -object and object-add make, by id: IOThreads, throttle groups and secrets.
//
// Main context. An object that something uses cannot be deleted. Who uses an IOThread says so with use_iothread() and
// release(); throttle groups know it themselves; who uses a secret has a copy.
#pragma once

#include "block/block_graph.h"
#include "util/io_thread.h"
#include "util/options.h"
#include "util/secrets.h"

#include <map>
#include <memory>

namespace ashlar {

struct IoThreadOptions {
    std::optional<int64_t> poll_max_ns;
    int64_t poll_grow = 0;
    int64_t poll_shrink = 0;

    static const OptionSet<IoThreadOptions>& options();
};

enum class ObjectType : uint8_t { IoThread, Secret, ThrottleGroup };
constexpr auto enum_names(ObjectType) {
    return std::to_array<EnumName<ObjectType>>({
        {ObjectType::IoThread, "iothread"},
        {ObjectType::Secret, "secret"},
        {ObjectType::ThrottleGroup, "throttle-group"},
    });
}

struct ObjectOptions {
    ObjectType type = ObjectType::IoThread;
    std::string id;
    IoThreadOptions iothread;
    SecretOptions secret;
    ThrottleGroupOptions throttle_group;

    static const OptionSet<ObjectOptions>& options();
};

struct ObjectProperties;

class UserObjects {
public:
    // Throttle groups and secrets are the graph's, which outlives this.
    explicit UserObjects(BlockGraph& graph) : throttle_groups_(graph.throttle_groups()), secrets_(graph.secrets()) {}
    UserObjects(const UserObjects&) = delete;
    ~UserObjects();  // nothing is in use

    Result<void> add(ObjectOptions options);
    // `-object TYPE,id=ID,...` or JSON; errors begin with `option` and the object's type and id.
    Result<void> add(std::string_view argument, std::string_view option = "--object");
    Result<void> remove(std::string_view id);

    Result<IOThread*> use_iothread(std::string_view id);
    void release(IOThread& iothread);
    std::vector<IOThread*> iothreads() const;  // in the order of their names

    // qom-list, qom-get, qom-set; `path` is /objects/ID or ID.
    struct Property {
        std::string name, type;
    };
    Result<std::vector<Property>> list(std::string_view path) const;
    Result<JsonBox> get(std::string_view path, std::string_view property) const;
    Result<void> set(std::string_view path, std::string_view property, const Json& value);

private:
    struct Thread {
        std::unique_ptr<IOThread> thread;
        unsigned users = 0;
    };
    std::map<std::string, ObjectType, std::less<>> all() const;
    Result<void> add_iothread(const std::string& id, const IoThreadOptions& options);
    Result<void> add_secret(const std::string& id, SecretOptions options);
    Result<ObjectProperties> find(std::string_view path) const;

    std::map<std::string, Thread, std::less<>> threads_;
    ThrottleGroups& throttle_groups_;
    Secrets& secrets_;
};

// What `-object help` and `-object TYPE,help` print; nothing when `argument` asks for no help.
std::optional<std::string> object_help(std::string_view argument);

// A letter, then letters, digits, '-', '.' and '_'.
bool is_valid_id(std::string_view id);

}  // namespace ashlar

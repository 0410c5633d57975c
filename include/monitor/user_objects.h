// UserObjects: what -object and object-add make, by id: IOThreads and throttle groups.
//
// Main context. An object that something uses cannot be deleted. Who uses an IOThread says so with use_iothread() and
// release(); throttle groups know it themselves.
#pragma once

#include "block/throttle_groups.h"
#include "util/io_thread.h"
#include "util/options.h"

#include <map>
#include <memory>

namespace ashlar {

struct IoThreadOptions {
    std::optional<int64_t> poll_max_ns;

    static const OptionSet<IoThreadOptions>& options();
};

enum class ObjectType : uint8_t { IoThread, ThrottleGroup };
constexpr auto enum_names(ObjectType) {
    return std::to_array<EnumName<ObjectType>>({
        {ObjectType::IoThread, "iothread"},
        {ObjectType::ThrottleGroup, "throttle-group"},
    });
}

struct ObjectOptions {
    ObjectType type = ObjectType::IoThread;
    std::string id;
    IoThreadOptions iothread;
    ThrottleGroupOptions throttle_group;

    static const OptionSet<ObjectOptions>& options();
};

class UserObjects {
public:
    explicit UserObjects(ThrottleGroups& throttle_groups) : throttle_groups_(throttle_groups) {}
    UserObjects(const UserObjects&) = delete;
    ~UserObjects();  // nothing is in use

    Result<void> add(ObjectOptions options);
    // `-object TYPE,id=ID,...` or JSON.
    Result<void> add(std::string_view argument);
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
    struct Found {
        IOThread* thread = nullptr;
        std::shared_ptr<ThrottleGroup> group = {};
    };
    Result<void> add_iothread(const std::string& id, const IoThreadOptions& options);
    Result<Found> find(std::string_view path) const;

    std::map<std::string, Thread, std::less<>> threads_;
    ThrottleGroups& throttle_groups_;
};

// A letter, then letters, digits, '-', '.' and '_'.
bool is_valid_id(std::string_view id);

}  // namespace ashlar

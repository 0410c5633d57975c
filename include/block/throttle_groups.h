// Throttle groups: limits that several nodes and BlockBackends share, whatever AioContexts their requests come from.
//
// A ThrottleGroup lets requests go as its limits allow (util/throttle.h). Those that have to wait are taken from the
// members in turn, so that none keeps the others out. Reads and writes wait in queues of their own: one request of each
// is the first, and sleeps, in its own AioContext, for as long as the limits say; when it goes it hands over to the
// next. What does not have to wait takes one short lock.
//
// Groups and members are made, changed and destroyed in the main context. Whoever uses a group holds a reference.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "block/request_throttle.h"
#include "block/throttle_limits.h"
#include "util/aio_context.h"
#include "util/error.h"

namespace ashlar {

class BlockBackend;
class ThrottleGroup;

// One user of a group: a `throttle` node, or a BlockBackend. Nobody waits in it when it is destroyed.
class ThrottleGroupMember final : public RequestThrottle {
public:
    explicit ThrottleGroupMember(std::shared_ptr<ThrottleGroup> group);
    ~ThrottleGroupMember() override;

    Task<void> co_admit(bool is_write, int64_t bytes) override;
    void drain_begin() override;
    void drain_end() override;  // without effect for the sections that the member was made in

    const std::shared_ptr<ThrottleGroup>& group() const { return group_; }
    unsigned waiting() const;  // stale when read

private:
    friend class ThrottleGroup;
    struct Waiter;
    struct Queue {
        Waiter* head = nullptr;
        Waiter** tail = &head;
    };

    const std::shared_ptr<ThrottleGroup> group_;
    // Guarded by the group's lock.
    Queue queues_[2];  // [is_write]
    unsigned drained_ = 0;
};

class ThrottleGroup {
public:
    explicit ThrottleGroup(std::string name) : name_(std::move(name)) {}
    ~ThrottleGroup();

    const std::string& name() const { return name_; }
    ThrottleConfig config() const;
    void set_config(const ThrottleConfig& config);  // the buckets are empty afterwards; applies to those that wait

private:
    friend class ThrottleGroupMember;
    using Waiter = ThrottleGroupMember::Waiter;
    struct Sleep;

    bool may_go(const ThrottleGroupMember& member, bool is_write);
    void take_turn(const ThrottleGroupMember& member, bool is_write);
    Waiter* next_waiter(bool is_write);
    void hand_over(bool is_write);
    void wake_sleepers();

    const std::string name_;
    mutable std::mutex lock_;
    ThrottleState state_;
    std::vector<ThrottleGroupMember*> members_;
    size_t turn_[2] = {};      // whose turn it is, an index of members_
    Waiter* leaders_[2] = {};  // the first of those that wait; there is one if any waits
    Sleep* sleeping_[2] = {};  // while the leader sleeps
};

// The groups of a program, by name.
class ThrottleGroups {
public:
    // -object throttle-group and object-add; object-del: fails while the group is used.
    Result<std::shared_ptr<ThrottleGroup>> add_object(const std::string& id, const ThrottleGroupOptions& options);
    Result<> remove_object(const std::string& id);
    bool is_object(const std::string& id) const { return objects_.contains(id); }
    std::vector<std::string> object_names() const;

    std::shared_ptr<ThrottleGroup> find(const std::string& name) const;  // null when there is none
    // One that lives as long as it is used.
    std::shared_ptr<ThrottleGroup> find_or_create(const std::string& name);

private:
    std::map<std::string, std::weak_ptr<ThrottleGroup>> groups_;
    std::map<std::string, std::shared_ptr<ThrottleGroup>> objects_;
};

// Limits for a BlockBackend (-drive throttling.*, block_set_io_throttle): puts it into `group` (default: the one it is
// in, else one of `default_group`'s name) and gives that the limits; none at all take it out of its group.
[[nodiscard]] Task<Result<void>> co_set_io_throttle(BlockBackend& backend, ThrottleLimits limits,
                                                    std::optional<std::string> group, std::string default_group);
// The group that a BlockBackend is in, or null.
std::shared_ptr<ThrottleGroup> throttle_group_of(const BlockBackend& backend);

}  // namespace ashlar

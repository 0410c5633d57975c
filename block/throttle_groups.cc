#include "block/throttle_groups.h"

#include <algorithm>
#include <cassert>

#include "util/timer.h"

namespace ashlar {

// A request that is held back; in the coroutine's frame.
struct ThrottleGroupMember::Waiter : CoWaiter {
    ThrottleGroupMember& member;
    const bool is_write;
    const int64_t bytes;
    bool admitted = false;
    Waiter* following = nullptr;

    Waiter(ThrottleGroupMember& m, bool write, int64_t n) : member(m), is_write(write), bytes(n) {}

    // Resumed when it is admitted, or when it is its direction's leader.
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) {
        prepare(h);
        ThrottleGroup& group = *member.group_;
        std::lock_guard guard(group.lock_);
        if (member.drained_ || (!group.leaders_[is_write] && group.may_go(member, is_write))) {
            group.state_.account(is_write, bytes);
            admitted = true;
            return false;
        }
        if (!group.leaders_[is_write]) {
            group.leaders_[is_write] = this;
            group.take_turn(member, is_write);
            return false;
        }
        Queue& queue = member.queues_[is_write];
        *queue.tail = this;
        queue.tail = &following;
        return true;
    }
    void await_resume() const noexcept {}
};

// The leader's sleep: until a time, or until wake() is called in another thread.
struct ThrottleGroup::Sleep {
    struct Alarm : Timer {
        Sleep* sleep;
        Alarm(AioContext& context, Sleep* s) : Timer(context, fire), sleep(s) {}
        static void fire(Timer& timer) { static_cast<Alarm&>(timer).sleep->resume(); }
    };

    Alarm alarm;
    BottomHalf early;
    std::coroutine_handle<> coroutine;

    Sleep()
        : alarm(*AioContext::current(), this),
          early(*AioContext::current(), [](void* self) { static_cast<Sleep*>(self)->resume(); }, this) {}

    void wake() { early.schedule(); }  // any thread, under the group's lock
    void resume() {
        alarm.disarm();
        if (auto h = std::exchange(coroutine, nullptr))
            h.resume();
    }
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) { coroutine = h; }
    void await_resume() const noexcept {}
};

// --- members ---

ThrottleGroupMember::ThrottleGroupMember(std::shared_ptr<ThrottleGroup> group) : group_(std::move(group)) {
    std::lock_guard guard(group_->lock_);
    group_->members_.push_back(this);
}

ThrottleGroupMember::~ThrottleGroupMember() {
    std::lock_guard guard(group_->lock_);
    assert(!queues_[false].head && !queues_[true].head);
    auto it = std::find(group_->members_.begin(), group_->members_.end(), this);
    auto index = static_cast<size_t>(it - group_->members_.begin());
    group_->members_.erase(it);
    for (size_t& turn : group_->turn_)
        if (turn > index)
            turn--;
}

Task<void> ThrottleGroupMember::co_admit(bool is_write, int64_t bytes) {
    Waiter waiter(*this, is_write, bytes);
    co_await waiter;
    while (!waiter.admitted) {
        ThrottleGroup::Sleep sleep;
        {
            std::lock_guard guard(group_->lock_);
            int64_t now = now_ns();
            int64_t wait = drained_ ? 0 : group_->state_.wait_ns(is_write, now);
            if (wait == 0) {
                group_->state_.account(is_write, bytes);
                group_->hand_over(is_write);
                co_return;
            }
            group_->sleeping_[is_write] = &sleep;
            sleep.alarm.arm(now + wait);
        }
        co_await sleep;
        std::lock_guard guard(group_->lock_);
        group_->sleeping_[is_write] = nullptr;
    }
}

void ThrottleGroupMember::drain_begin() {
    std::lock_guard guard(group_->lock_);
    if (drained_++ > 0)
        return;
    for (Queue& queue : queues_) {
        while (Waiter* waiter = queue.head) {
            queue.head = waiter->following;
            group_->state_.account(waiter->is_write, waiter->bytes);
            waiter->admitted = true;
            waiter->wake();
        }
        queue.tail = &queue.head;
    }
    group_->wake_sleepers();  // one of them may be this member's
}

void ThrottleGroupMember::drain_end() {
    std::lock_guard guard(group_->lock_);
    if (drained_ > 0)
        drained_--;
}

unsigned ThrottleGroupMember::waiting() const {
    std::lock_guard guard(group_->lock_);
    unsigned count = 0;
    for (const Queue& queue : queues_)
        for (const Waiter* waiter = queue.head; waiter; waiter = waiter->following)
            count++;
    for (const Waiter* leader : group_->leaders_)
        count += leader && &leader->member == this;
    return count;
}

// --- groups ---

ThrottleGroup::~ThrottleGroup() {
    assert(members_.empty());
}

ThrottleConfig ThrottleGroup::config() const {
    std::lock_guard guard(lock_);
    return state_.config();
}

void ThrottleGroup::set_config(const ThrottleConfig& config) {
    std::lock_guard guard(lock_);
    state_.configure(config, now_ns());
    wake_sleepers();
}

void ThrottleGroup::wake_sleepers() {
    for (Sleep* sleep : sleeping_)
        if (sleep)
            sleep->wake();
}

bool ThrottleGroup::may_go(const ThrottleGroupMember& member, bool is_write) {
    return member.drained_ || state_.wait_ns(is_write, now_ns()) == 0;
}

void ThrottleGroup::take_turn(const ThrottleGroupMember& member, bool is_write) {
    auto it = std::find(members_.begin(), members_.end(), &member);
    turn_[is_write] = static_cast<size_t>(it - members_.begin()) + 1;
}

// Takes from the queues the request whose turn it is.
ThrottleGroup::Waiter* ThrottleGroup::next_waiter(bool is_write) {
    for (size_t i = 0; i < members_.size(); ++i) {
        size_t index = (turn_[is_write] + i) % members_.size();
        auto& queue = members_[index]->queues_[is_write];
        Waiter* waiter = queue.head;
        if (!waiter)
            continue;
        queue.head = waiter->following;
        if (!queue.head)
            queue.tail = &queue.head;
        turn_[is_write] = index + 1;
        return waiter;
    }
    return nullptr;
}

// The leader goes: so do those behind it that may, and the first one that may not leads.
void ThrottleGroup::hand_over(bool is_write) {
    leaders_[is_write] = nullptr;
    while (Waiter* waiter = next_waiter(is_write)) {
        if (!may_go(waiter->member, is_write)) {
            leaders_[is_write] = waiter;
            waiter->wake();
            return;
        }
        state_.account(is_write, waiter->bytes);
        waiter->admitted = true;
        waiter->wake();
    }
}

// --- by name ---

Result<std::shared_ptr<ThrottleGroup>> ThrottleGroups::add_object(const std::string& id,
                                                                  const ThrottleGroupOptions& options) {
    if (find(id))
        return fail("A group with this name already exists: '{}'", id);
    auto config = options.combined().to_config();
    if (!config)
        return std::unexpected(std::move(config.error()));
    auto group = find_or_create(id);
    group->set_config(*config);
    objects_[id] = group;
    return group;
}

Result<> ThrottleGroups::remove_object(const std::string& id) {
    auto object = objects_.find(id);
    if (object == objects_.end())
        return fail("object '{}' not found", id);
    if (object->second.use_count() > 1)
        return fail("object '{}' is in use, can not be deleted", id);
    objects_.erase(object);
    return {};
}

std::vector<std::string> ThrottleGroups::object_names() const {
    std::vector<std::string> names;
    for (const auto& [id, group] : objects_)
        names.push_back(id);
    return names;
}

std::shared_ptr<ThrottleGroup> ThrottleGroups::find(const std::string& name) const {
    auto group = groups_.find(name);
    return group == groups_.end() ? nullptr : group->second.lock();
}

std::shared_ptr<ThrottleGroup> ThrottleGroups::find_or_create(const std::string& name) {
    auto group = find(name);
    if (!group) {
        std::erase_if(groups_, [](const auto& entry) { return entry.second.expired(); });
        group = std::make_shared<ThrottleGroup>(name);
        groups_[name] = group;
    }
    return group;
}

}  // namespace ashlar

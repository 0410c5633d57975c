#include "block/throttle_groups.h"
#include "tests/unit/assert_text.h"
#include "tests/unit/block_fixture.h"
#include "util/io_thread.h"
#include "util/json.h"
#include "util/keyval.h"
#include "util/sync_wait.h"
#include "util/task_scope.h"
#include "util/throttle.h"
#include "util/timer.h"

#include <glib.h>

#include <array>
#include <cmath>

using namespace ashlar;

namespace {

constexpr int64_t kSecond = 1'000'000'000;

// --- the arithmetic, with a clock of its own ---

struct Clocked {
    ThrottleState state;
    int64_t now = 1000 * kSecond;

    explicit Clocked(const ThrottleConfig& config) { state.configure(config, now); }

    // How many requests go at once.
    int burst(bool is_write, int64_t bytes, int limit = 100000) {
        int count = 0;
        for (; count < limit && state.wait_ns(is_write, now) == 0; ++count)
            state.account(is_write, bytes);
        return count;
    }
    // How many requests go within `seconds`, each as soon as it may.
    int count_during(double seconds, bool is_write, int64_t bytes) {
        int64_t end = now + static_cast<int64_t>(seconds * kSecond);
        int count = 0;
        for (;;) {
            int64_t wait = state.wait_ns(is_write, now);
            if (now + wait > end)
                return now = end, count;
            now += wait;
            state.account(is_write, bytes);
            count++;
        }
    }
};

void assert_near(double got, double expected, double tolerance) {
    if (std::fabs(got - expected) > tolerance)
        g_error("got %g, expected %g +- %g", got, expected, tolerance);
}

void test_average() {
    Clocked c({.requests = {.total = {.per_second = 100}}});
    g_assert_cmpint(c.burst(false, 512), ==, 11);  // a tenth of a second's, and the one that fills the bucket
    g_assert_cmpint(c.state.wait_ns(true, c.now), ==, kSecond / 100);
    assert_near(c.count_during(10, true, 1 << 20), 1000, 1);
    c.now += 3600 * kSecond;
    g_assert_cmpint(c.burst(false, 512), ==, 11);  // what was not used does not add up
}

void test_bytes() {
    Clocked c({.bytes = {.read = {.per_second = 1 << 20}}});
    assert_near(c.count_during(10, false, 65536), 10 * 16, 4);
    g_assert_cmpint(c.burst(true, 1 << 30), ==, 100000);  // writes are not limited
    c.now += 10 * kSecond;
    // One that is larger than the bucket goes, and is paid for afterwards.
    g_assert_cmpint(c.burst(false, 10 << 20), ==, 1);
    assert_near(static_cast<double>(c.state.wait_ns(false, c.now)) / kSecond, 9.9, 0.001);
}

void test_bursts() {
    // 20 at once, then 10 per second: measured on QEMU, 40 requests take 1.9 s.
    Clocked once({.requests = {.total = {10, 20, 1}}});
    g_assert_cmpint(once.burst(false, 1), ==, 21);
    assert_near(once.count_during(1.9, false, 1), 19, 0);

    // Not more than 20 per second for two seconds: measured on QEMU, 23 requests take 1.0 s.
    Clocked longer({.requests = {.total = {10, 20, 2}}});
    g_assert_cmpint(longer.burst(false, 1), ==, 3);
    assert_near(longer.count_during(1.0, false, 1), 20, 0);
    // 40 units are full after 4 s (20 in, 10 out); then it is 10 per second.
    longer.count_during(4, false, 1);
    assert_near(longer.count_during(10, false, 1), 100, 1);
    longer.now += 100 * kSecond;
    assert_near(longer.count_during(1, false, 1), 23, 1);  // another burst
}

void test_request_size() {
    Clocked c({.requests = {.write = {.per_second = 1000}}, .request_size = 4096});
    assert_near(c.count_during(10, true, 8192), 5000, 60);
    c.now += 10 * kSecond;
    assert_near(c.count_during(10, true, 6144), 6667, 80);
    c.now += 10 * kSecond;
    assert_near(c.count_during(10, true, 512), 10000, 110);
}

void test_several_limits() {
    Clocked c({.bytes = {.total = {.per_second = 1 << 20}}, .requests = {.read = {.per_second = 100}}});
    assert_near(c.count_during(10, false, 512), 1000, 11);   // the requests are the limit
    assert_near(c.count_during(10, false, 1 << 18), 40, 2);  // the bytes are
    assert_near(static_cast<double>(c.state.wait_ns(true, c.now)), static_cast<double>(c.state.wait_ns(false, c.now)),
                1);  // which are shared with writes
}

void test_clock_stands_still() {
    Clocked c({.requests = {.total = {.per_second = 10}}});
    c.burst(false, 1);
    int64_t wait = c.state.wait_ns(false, c.now);
    g_assert_cmpint(c.state.wait_ns(false, c.now - kSecond), ==, wait);
}

// --- the limits as users write them ---

Result<ThrottleConfig> parse_group(std::string_view text) {
    auto keyval = parse_keyval(text);
    g_assert_true(keyval.has_value());
    auto options = ThrottleGroupOptions::options().parse(keyval->options, keyval->typing);
    if (!options)
        return std::unexpected(options.error());
    return options->combined().to_config();
}

void test_names() {
    ThrottleConfig expected{.bytes = {.read = {5, 7, 9}}, .requests = {.total = {1, 2, 3}}, .request_size = 4096};
    auto limits = parse_group(
        "limits.iops-total=1,limits.iops-total-max=2,limits.iops-total-max-length=3,limits.iops-size=4096,"
        "limits.bps-read=5,limits.bps-read-max=7,limits.bps-read-max-length=9");
    g_assert_true(*limits == expected);
    auto unstable = parse_group(
        "x-iops-total=1,x-iops-total-max=2,x-iops-total-max-length=3,x-iops-size=4096,x-bps-read=100,"
        "x-bps-read-max=7,x-bps-read-max-length=9,limits.bps-read=5");
    g_assert_true(*unstable == expected);
    auto qmp = QmpThrottleLimits::options().parse(
        *parse_json(R"({"iops": 1, "iops_max": 2, "iops_max_length": 3, "iops_size": 4096, "bps": 0,
                        "bps_rd": 5, "bps_rd_max": 7, "bps_rd_max_length": 9, "bps_wr": 0})"),
        Typing::Strict);
    g_assert_true(*qmp->to_config() == expected);
    auto drive = DriveThrottling::options().parse(
        parse_keyval("group=g,iops-total=1,iops-total-max=2,iops-total-max-length=3,iops-size=4096,bps-read=5,"
                     "bps-read-max=7,bps-read-max-length=9")
            ->options,
        Typing::Lenient);
    g_assert_true(*drive->limits.to_config() == expected);
    assert_text(*drive->group, "g");
    g_assert_true(*ThrottleLimits::from_config(expected).to_config() == expected);

    // What is not given stays.
    ThrottleLimits change{.iops_total = 50, .iops_total_max = 0, .iops_total_max_length = 1};
    expected.requests.total = {50, 0, 1};
    g_assert_true(*change.to_config(*limits) == expected);
}

void test_validation() {
    struct {
        const char *text, *message;
    } cases[] = {
        {"limits.bps-total=1,limits.bps-read=1",
         "bps/iops/max total values and read/write values cannot be used at the same time"},
        {"limits.iops-total=1,x-iops-write=1",
         "bps/iops/max total values and read/write values cannot be used at the same time"},
        {"limits.iops-total-max=5", "bps_max/iops_max require corresponding bps/iops values"},
        {"limits.iops-total=10,limits.iops-total-max=5", "bps_max/iops_max cannot be lower than bps/iops"},
        {"limits.iops-total=10,limits.iops-total-max-length=5", "burst length set without burst rate"},
        {"limits.iops-total=10,limits.iops-total-max=20,limits.iops-total-max-length=0",
         "the burst length cannot be 0"},
        {"limits.iops-size=5", "iops size requires an iops value to be set"},
        {"limits.bps-total=1000000000000001", "bps/iops/max values must be within [0, 1000000000000000]"},
        {"limits.bps-total=-1", "bps/iops/max values must be within [0, 1000000000000000]"},
        {"limits.bps-read-max-length=4294967296", "bps-read-max-length value must be in the range [0, 4294967295]"},
        {"limits.bps-read=1,limits.bps-read-max=1000000000000000,limits.bps-read-max-length=2",
         "burst length too high for this burst rate"},
    };
    for (const auto& c : cases) {
        auto config = parse_group(c.text);
        g_assert_false(config.has_value());
        assert_text(config.error().message, c.message);
    }
}

// --- groups ---

std::unique_ptr<AioContext> make_context() {
    auto context = AioContext::create();
    g_assert_true(context.has_value());
    return std::move(*context);
}

constexpr int64_t kRequest = 1 << 20;

// Limits that let exactly so many requests of kRequest bytes go; the next one would have to wait for days.
ThrottleConfig room_for(uint64_t requests) {
    return {.bytes = {.total = {.per_second = 1, .max_per_second = requests * kRequest - kRequest / 2}}};
}

std::shared_ptr<ThrottleGroup> make_group(const ThrottleConfig& config) {
    auto group = std::make_shared<ThrottleGroup>("g");
    group->set_config(config);
    return group;
}

Task<void> admit(ThrottleGroupMember& member, bool is_write, std::string& order, char name) {
    co_await member.co_admit(is_write, kRequest);
    order += name;
}

void test_turns() {
    auto context = make_context();
    auto group = make_group(room_for(1));
    ThrottleGroupMember a(group), b(group), c(group);
    std::string order;
    TaskScope scope;
    scope.spawn(admit(a, false, order, '-'));
    for (int i = 0; i < 6; ++i)
        scope.spawn(admit(a, false, order, 'a'));
    for (int i = 0; i < 3; ++i)
        scope.spawn(admit(b, false, order, 'b'));
    scope.spawn(admit(c, false, order, 'c'));
    assert_text(order, "-");
    g_assert_cmpuint(a.waiting(), ==, 6);
    group->set_config(room_for(10));
    sync_wait(*context, scope.join());
    assert_text(order, "-abcababaaa");
}

void test_sleeps_as_long_as_limits_say() {
    auto context = make_context();
    int64_t begin = now_ns();
    auto group = make_group({.requests = {.total = {.per_second = 100}}});
    ThrottleGroupMember member(group);
    std::string order;
    TaskScope scope;
    for (int i = 0; i < 21; ++i)  // eleven fill the bucket
        scope.spawn(admit(member, false, order, 'x'));
    sync_wait(*context, scope.join());
    g_assert_cmpint(now_ns() - begin, >=, 100'000'000);
}

void test_reads_and_writes_wait_apart() {
    auto context = make_context();
    auto group = make_group({.bytes = {.read = {.per_second = 1}}});
    ThrottleGroupMember member(group);
    std::string order;
    TaskScope scope;
    for (int i = 0; i < 3; ++i)
        scope.spawn(admit(member, false, order, 'r'));
    for (int i = 0; i < 3; ++i)
        scope.spawn(admit(member, true, order, 'w'));
    assert_text(order, "rwww");
    member.drain_begin();
    sync_wait(*context, scope.join());
    member.drain_end();
}

void test_drain() {
    auto context = make_context();
    auto group = make_group(room_for(1));
    ThrottleGroupMember a(group), b(group);
    std::string order;
    TaskScope scope;
    scope.spawn(admit(a, false, order, '-'));
    for (int i = 0; i < 3; ++i) {
        scope.spawn(admit(a, false, order, 'a'));
        scope.spawn(admit(b, false, order, 'b'));
    }
    assert_text(order, "-");
    a.drain_begin();
    scope.spawn(admit(a, true, order, 'w'));  // while it is drained nothing waits
    while (a.waiting() > 0 || order.size() < 5)
        context->poll(true);
    assert_text(order, "-waaa");
    g_assert_cmpuint(b.waiting(), ==, 3);
    b.drain_begin();
    sync_wait(*context, scope.join());
    assert_text(order, "-waaabbb");
    a.drain_end();
    b.drain_end();
    b.drain_end();  // of a section that was there before the member
}

void test_new_limits_apply_at_once() {
    auto context = make_context();
    auto group = make_group(room_for(1));
    ThrottleGroupMember member(group);
    std::string order;
    TaskScope scope;
    for (int i = 0; i < 20; ++i)
        scope.spawn(admit(member, i % 2, order, 'x'));
    g_assert_cmpuint(order.size(), ==, 1);
    group->set_config({});
    sync_wait(*context, scope.join());
    g_assert_cmpuint(order.size(), ==, 20);
}

struct Counter {
    std::atomic<unsigned> admitted{0};
    std::atomic<bool> stop{false};
};

Task<void> keep_busy(ThrottleGroupMember& member, Counter& counter, bool is_write) {
    while (!counter.stop) {
        co_await member.co_admit(is_write, kRequest);
        counter.admitted++;
    }
}

// Two members, eight coroutines of each, in two threads: for as long as it lives they ask without a pause.
struct TwoContexts {
    static constexpr unsigned kEach = 8;

    std::unique_ptr<AioContext> context = make_context();
    std::unique_ptr<IOThread> threads[2];
    std::shared_ptr<ThrottleGroup> group;
    ThrottleGroupMember a, b;
    Counter counters[2];
    TaskScope scope;

    TwoContexts(const ThrottleConfig& config, bool with_writes) : group(make_group(config)), a(group), b(group) {
        for (auto& thread : threads) {
            auto made = IOThread::create("t");
            g_assert_true(made.has_value());
            thread = std::move(*made);
        }
        for (unsigned i = 0; i < kEach; ++i) {
            scope.spawn_on(threads[0]->context(), keep_busy(a, counters[0], with_writes && i % 2));
            scope.spawn_on(threads[1]->context(), keep_busy(b, counters[1], with_writes && i % 2));
        }
    }
    ~TwoContexts() {
        for (Counter& counter : counters)
            counter.stop = true;
        a.drain_begin();
        b.drain_begin();
        sync_wait(*context, scope.join());
        a.drain_end();
        b.drain_end();
    }

    // Waits until `expected` requests have gone and all coroutines wait again.
    void settle(unsigned expected) {
        while (total() < expected || a.waiting() < kEach || b.waiting() < kEach)
            sync_wait(*context, co_sleep(kSecond / 1000));
        g_assert_cmpuint(total(), ==, expected);
    }
    unsigned total() const { return counters[0].admitted + counters[1].admitted; }
};

void test_contexts_share_limits() {
    TwoContexts two(room_for(1000), true);
    two.settle(1000);
    two.group->set_config(room_for(5000));
    two.settle(6000);
}

void test_contexts_take_turns() {
    TwoContexts two(room_for(1), false);
    two.settle(1);
    unsigned before[] = {two.counters[0].admitted, two.counters[1].admitted};
    // No more than wait already, so that it does not matter which thread comes back first for more.
    two.group->set_config(room_for(TwoContexts::kEach));
    two.settle(1 + TwoContexts::kEach);
    g_assert_cmpuint(two.counters[0].admitted - before[0], ==, TwoContexts::kEach / 2);
    g_assert_cmpuint(two.counters[1].admitted - before[1], ==, TwoContexts::kEach / 2);
}

void test_objects() {
    ThrottleGroups groups;
    auto group = groups.add_object("g", {.limits = {.iops_total = 5}});
    g_assert_true(group.has_value());
    g_assert_cmpuint((*group)->config().requests.total.per_second, ==, 5);
    g_assert_true(groups.find("g") == *group);
    g_assert_false(groups.add_object("g", {}).has_value());
    g_assert_false(groups.add_object("h", {.limits = {.iops_total = -5}}).has_value());
    g_assert_null(groups.find("h").get());
    {
        ThrottleGroupMember member(*group);
        group = fail("let go");
        auto refused = groups.remove_object("g");
        g_assert_false(refused.has_value());
        assert_text(refused.error().message, "object 'g' is in use, can not be deleted");
    }
    g_assert_true(groups.remove_object("g").has_value());
    g_assert_null(groups.find("g").get());

    auto implicit = groups.find_or_create("drive0");
    g_assert_true(groups.find_or_create("drive0") == implicit);
    implicit.reset();
    g_assert_null(groups.find("drive0").get());
}

// --- in the graph ---

// The second request of 512 bytes would have to wait for minutes.
const ThrottleLimits kOneRequest{.iops_total = 1, .iops_size = 1};

constexpr std::string_view kImage = "{'driver': 'null-co', 'size': 1048576, 'read-zeroes': true}";

struct Counted : Completion {
    int done = 0;
    Counted() {
        fn = [](Completion& self) { static_cast<Counted&>(self).done++; };
    }
};

void test_driver() {
    BlockFixture f;
    auto options = [](std::string_view group) {
        return fmt::format("{{'driver': 'throttle', 'node-name': 'disk', 'throttle-group': '{}', 'file': {}}}", group,
                           kImage);
    };
    assert_text(f.add_error(options("g")), "Throttle group 'g' does not exist");
    f.check(f.graph->throttle_groups().add_object("g", {.limits = kOneRequest}));
    f.check(f.graph->throttle_groups().add_object("h", {}));
    auto backend = f.attach(f.add(options("g")));
    g_assert_false(f.graph->throttle_groups().remove_object("g").has_value());
    g_assert_cmpint(backend->length(), ==, 1 << 20);

    char data[512];
    iovec element{data, sizeof data};
    g_assert_cmpint(backend->pread(0, 512, data), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);  // is not limited
    Counted requests[4];
    backend->aio_preadv(0, 512, IoVector(element), {}, requests[0]);
    backend->aio_pwritev(0, 512, IoVector(element), {}, requests[1]);
    backend->aio_pwrite_zeroes(0, 512, {}, requests[2]);
    backend->aio_pdiscard(0, 512, requests[3]);
    while (f.context->poll(false)) {
    }
    int done = 0;
    for (const auto& request : requests)
        done += request.done;
    g_assert_cmpint(done, ==, 1);  // a discard that the image does not want costs nothing: 'discard' is 'ignore'
    {
        auto drained = f.run(f.graph->co_drain(*backend->root()));
        for (const auto& request : requests)
            g_assert_cmpint(request.done, ==, 1);
    }

    // To another group, without limits.
    std::vector<Json> all{f.check(parse_json_object(options("h")))};
    all[0].erase("file");
    f.check(f.run(f.graph->co_blockdev_reopen(std::move(all), Typing::Strict)));
    for (int i = 0; i < 5; ++i)
        g_assert_cmpint(backend->pread(0, 512, data), ==, 0);
    f.check(f.graph->throttle_groups().remove_object("g"));
    f.detach(backend);
}

void test_backend() {
    BlockFixture f;
    auto backend = f.attach(f.add(fmt::format("{{'driver': 'raw', 'node-name': 'disk', 'file': {}}}", kImage)));
    auto set = [&](ThrottleLimits limits, std::optional<std::string> group) {
        return f.run(co_set_io_throttle(*backend, limits, std::move(group), "drive0"));
    };
    f.check(set(kOneRequest, std::nullopt));
    assert_text(throttle_group_of(*backend)->name(), "drive0");
    char data[512];
    iovec element{data, sizeof data};
    g_assert_cmpint(backend->pread(0, 512, data), ==, 0);
    Counted request;
    backend->aio_preadv(0, 512, IoVector(element), {}, request);
    while (f.context->poll(false)) {
    }
    g_assert_cmpint(request.done, ==, 0);

    // Another group: what waited goes.
    f.check(set({.iops_total = 1000}, "other"));
    assert_text(throttle_group_of(*backend)->name(), "other");
    g_assert_null(f.graph->throttle_groups().find("drive0").get());
    g_assert_cmpint(request.done, ==, 1);
    f.check(set({.iops_total = 5}, std::nullopt));  // stays in it
    assert_text(throttle_group_of(*backend)->name(), "other");
    g_assert_cmpuint(throttle_group_of(*backend)->config().requests.total.per_second, ==, 5);
    g_assert_false(set({.iops_total = 5, .iops_read = 5}, std::nullopt).has_value());
    f.check(set({}, std::nullopt));
    g_assert_null(throttle_group_of(*backend).get());
    g_assert_null(f.graph->throttle_groups().find("other").get());
    for (int i = 0; i < 5; ++i)
        g_assert_cmpint(backend->pread(0, 512, data), ==, 0);
    f.detach(backend);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/throttle/average-is-kept", test_average);
    g_test_add_func("/throttle/bytes-are-kept", test_bytes);
    g_test_add_func("/throttle/bursts-end", test_bursts);
    g_test_add_func("/throttle/large-requests-count-for-several", test_request_size);
    g_test_add_func("/throttle/strictest-limit-counts", test_several_limits);
    g_test_add_func("/throttle/clock-that-goes-back-does-no-harm", test_clock_stands_still);
    g_test_add_func("/throttle/limits/every-interface-has-its-names", test_names);
    g_test_add_func("/throttle/limits/contradictions-are-refused", test_validation);
    g_test_add_func("/throttle/group/members-take-turns", test_turns);
    g_test_add_func("/throttle/group/sleeps-as-long-as-limits-say", test_sleeps_as_long_as_limits_say);
    g_test_add_func("/throttle/group/reads-do-not-hold-writes-back", test_reads_and_writes_wait_apart);
    g_test_add_func("/throttle/group/drain-lets-those-that-wait-go", test_drain);
    g_test_add_func("/throttle/group/new-limits-apply-to-those-that-wait", test_new_limits_apply_at_once);
    g_test_add_func("/throttle/group/contexts-share-limits", test_contexts_share_limits);
    g_test_add_func("/throttle/group/contexts-take-turns", test_contexts_take_turns);
    g_test_add_func("/throttle/group/object-is-kept-while-it-is-used", test_objects);
    g_test_add_func("/throttle/graph/driver-limits-requests", test_driver);
    g_test_add_func("/throttle/graph/backend-moves-between-groups", test_backend);
    return g_test_run();
}

#include "tests/unit/virtio_driver.h"

using namespace ashlar;

namespace {

using Taken = Virtqueue::Taken;

// A queue and the driver's side of it.
struct Pair {
    std::unique_ptr<GuestRam> ram = make_guest_ram();
    Virtqueue queue;
    DriverQueue driver;
    VirtqueueChain chain;

    explicit Pair(Virtqueue::Features features = {.event_index = false, .indirect = true}, uint16_t size = 8)
        : driver(*ram, kGuestBase, size, features.event_index) {
        g_assert_true(queue.set_up(*ram, driver.layout(), features));
    }
    void is_broken(std::string_view why) {
        g_assert_true(queue.take(chain) == Taken::Broken);
        if (queue.error().find(why) == std::string::npos)
            g_error("broken by '%s', not by '%s'", queue.error().c_str(), std::string(why).c_str());
        g_assert_true(queue.take(chain) == Taken::Broken);
    }
};

void test_a_chain_is_taken_and_given_back() {
    Pair p;
    g_assert_true(p.queue.take(p.chain) == Taken::Nothing);
    const uint16_t head =
        p.driver.add({{kGuestData, 16}, {kGuestData + 100, 50}, {kGuestData + 1000, 512, true}, {kGuestData, 1, true}});
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    g_assert_cmpuint(p.chain.head, ==, head);
    g_assert_cmpuint(p.chain.readable.size(), ==, 2);
    g_assert_cmpuint(p.chain.writable.size(), ==, 2);
    g_assert_cmpuint(p.chain.readable_bytes, ==, 66);
    g_assert_cmpuint(p.chain.writable_bytes, ==, 513);
    g_assert_true(p.chain.readable[1].iov_base == p.ram->at(kGuestData + 100, 50));
    g_assert_cmpuint(p.queue.taken(), ==, 1);
    p.queue.give_back(p.chain.head, 513);
    g_assert_false(p.driver.has_used());
    g_assert_true(p.queue.publish());
    g_assert_false(p.queue.publish());
    auto used = p.driver.take_used();
    g_assert_true(used && used->head == head && used->bytes == 513);
    g_assert_true(p.queue.take(p.chain) == Taken::Nothing);
}

void test_indexes_wrap_around() {
    Pair p({}, 4);
    for (unsigned i = 0; i < 70000; ++i) {
        p.driver.add({{kGuestData + i % 64, 1 + i % 7}});
        g_assert_true(p.queue.take(p.chain) == Taken::Chain);
        g_assert_cmpuint(p.chain.readable_bytes, ==, 1 + i % 7);
        p.queue.give_back(p.chain.head, i);
        g_assert_true(p.queue.publish());
        g_assert_cmpuint(p.driver.take_used()->bytes, ==, i);
    }
}

void test_indirect_tables_are_followed() {
    Pair p;
    p.driver.add_indirect({{kGuestData, 16}, {kGuestData + 64, 4096, true}, {kGuestData + 32, 1, true}},
                          kGuestData + 0x10000);
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    g_assert_cmpuint(p.chain.readable_bytes, ==, 16);
    g_assert_cmpuint(p.chain.writable_bytes, ==, 4097);
    // Behind a plain one, and as long as a whole queue.
    std::vector<Piece> many(8, Piece{kGuestData, 4});
    p.driver.add_indirect(many, kGuestData + 0x10000);
    p.driver.write_descriptor(5, kGuestData, 7, DriverQueue::kNext, 6);
    p.driver.write_descriptor(6, kGuestData + 0x10000, 8 * 16, DriverQueue::kIndirect, 0);
    p.driver.make_available(5);
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    g_assert_cmpuint(p.chain.readable_bytes, ==, 7 + 8 * 4);
}

void test_interrupts_are_as_the_driver_wants_them() {
    Pair p;
    p.driver.set_available_flags(1);
    p.driver.add({{kGuestData, 1}});
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    p.queue.give_back(p.chain.head, 0);
    g_assert_false(p.queue.publish());

    Pair e({.event_index = true, .indirect = false});
    auto use = [&](unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            e.driver.add({{kGuestData, 1}});
            g_assert_true(e.queue.take(e.chain) == Taken::Chain);
            e.queue.give_back(e.chain.head, 0);
        }
        return e.queue.publish();
    };
    e.driver.set_used_event(2);  // after the third
    g_assert_false(use(2));
    g_assert_true(use(2));
    g_assert_false(use(1));
    while (e.driver.take_used()) {
    }
    g_assert_true(use(1));
}

void test_notifications_are_wanted_when_the_device_waits() {
    for (bool event_index : {false, true}) {
        Pair p({.event_index = event_index, .indirect = false});
        g_assert_true(p.queue.enable_notifications());
        p.driver.add({{kGuestData, 1}});
        g_assert_true(p.driver.wants_notification());
        p.queue.disable_notifications();
        p.driver.add({{kGuestData, 1}});
        g_assert_false(p.driver.wants_notification());
        g_assert_false(p.queue.enable_notifications());  // there are two to be taken
        g_assert_true(p.queue.take(p.chain) == Taken::Chain);
        g_assert_true(p.queue.take(p.chain) == Taken::Chain);
        g_assert_true(p.queue.enable_notifications());
        p.driver.add({{kGuestData, 1}});
        g_assert_true(p.driver.wants_notification());
    }
}

void test_bad_layouts_are_refused() {
    Pair p;
    const VirtqueueLayout good = p.driver.layout();
    auto refused = [&](VirtqueueLayout layout) {
        g_assert_false(p.queue.set_up(*p.ram, layout, {}));
        g_assert_false(p.queue.is_set_up());
        g_assert_cmpstr(p.queue.error().c_str(), !=, "");
        g_assert_true(p.queue.take(p.chain) == Taken::Broken);
    };
    for (uint32_t size : {0u, 3u, 6u, 2048u, UINT32_MAX, 1u << 31})
        refused({size, good.descriptors, good.available, good.used});
    for (uint64_t address : {uint64_t{0}, kGuestBase - 16, kGuestBase + kGuestBytes - 16, UINT64_MAX - 15}) {
        refused({8, address, good.available, good.used});
        refused({8, good.descriptors, address / 2 * 2, good.used});
        refused({8, good.descriptors, good.available, address / 4 * 4});
    }
    refused({8, good.descriptors + 8, good.available, good.used});
    refused({8, good.descriptors, good.available + 1, good.used});
    refused({8, good.descriptors, good.available, good.used + 2});
    g_assert_true(p.queue.set_up(*p.ram, good, {}));
}

void test_an_index_that_jumps_breaks_the_queue() {
    Pair p;
    p.driver.set_available_index(9);
    p.is_broken("index");
    Pair back;
    back.driver.add({{kGuestData, 1}});
    g_assert_true(back.queue.take(back.chain) == Taken::Chain);
    back.driver.set_available_index(0);
    back.is_broken("index");
}

void test_more_chains_than_descriptors_break_the_queue() {
    Pair p({}, 4);
    p.driver.write_descriptor(0, kGuestData, 1, 0, 0);
    for (unsigned i = 0; i < 4; ++i) {
        p.driver.make_available(0);
        g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    }
    p.driver.make_available(0);
    p.is_broken("more chains");
}

void test_a_head_out_of_the_table_breaks_the_queue() {
    Pair p;
    p.driver.make_available(8);
    p.is_broken("descriptor 8");
}

void test_loops_break_the_queue() {
    Pair p;
    p.driver.write_descriptor(0, kGuestData, 1, DriverQueue::kNext, 1);
    p.driver.write_descriptor(1, kGuestData, 1, DriverQueue::kNext, 0);
    p.driver.make_available(0);
    p.is_broken("loop");
    Pair self;
    self.driver.write_descriptor(3, kGuestData, 1, DriverQueue::kNext, 3);
    self.driver.make_available(3);
    self.is_broken("loop");
    Pair table;
    table.driver.write_descriptor(kGuestData, 0, kGuestData, 1, DriverQueue::kNext, 1);
    table.driver.write_descriptor(kGuestData, 1, kGuestData, 1, DriverQueue::kNext, 0);
    table.driver.write_descriptor(0, kGuestData, 32, DriverQueue::kIndirect, 0);
    table.driver.make_available(0);
    table.is_broken("loop");
}

void test_bad_descriptors_break_the_queue() {
    auto broken_by = [](uint64_t address, uint32_t bytes, uint16_t flags, std::string_view why,
                        Virtqueue::Features features = {.event_index = false, .indirect = true}) {
        Pair p(features);
        p.driver.write_descriptor(0, address, bytes, flags, 1);
        p.driver.write_descriptor(1, kGuestData, 1, 0, 0);
        p.driver.make_available(0);
        p.is_broken(why);
    };
    broken_by(kGuestData, 0, 0, "no bytes");
    broken_by(kGuestBase + kGuestBytes - 1, 2, 0, "no memory");
    broken_by(UINT64_MAX, UINT32_MAX, 0, "no memory");
    broken_by(0, 1, 0, "no memory");
    broken_by(kGuestData, 1, DriverQueue::kWrite | DriverQueue::kNext, "behind one that is written");
    broken_by(kGuestData, 32, DriverQueue::kIndirect | DriverQueue::kNext, "indirect");
    broken_by(kGuestData, 32, DriverQueue::kIndirect, "indirect", {});
    broken_by(kGuestData, 0, DriverQueue::kIndirect, "0 bytes");
    broken_by(kGuestData, 17, DriverQueue::kIndirect, "17 bytes");
    broken_by(kGuestBase + kGuestBytes - 16, 32, DriverQueue::kIndirect, "32 bytes");
}

void test_a_table_within_a_table_breaks_the_queue() {
    Pair p;
    p.driver.write_descriptor(kGuestData, 0, kGuestData, 16, DriverQueue::kIndirect, 0);
    p.driver.write_descriptor(0, kGuestData, 16, DriverQueue::kIndirect, 0);
    p.driver.make_available(0);
    p.is_broken("indirect");
}

void test_a_chain_is_not_longer_than_the_limit() {
    std::vector<Piece> pieces(Virtqueue::kMaxChain, Piece{kGuestData, 4});
    Pair p;
    p.driver.add_indirect(pieces, kGuestData + 0x10000);
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    g_assert_cmpuint(p.chain.readable_bytes, ==, 4 * Virtqueue::kMaxChain);
    pieces.push_back({kGuestData, 4});
    p.driver.add_indirect(pieces, kGuestData + 0x10000);
    p.is_broken("more than 1024");
}

void test_long_chains_do_not_keep_their_memory() {
    std::vector<Piece> pieces(Virtqueue::kMaxChain, Piece{kGuestData, 4});
    Pair p;
    p.driver.add_indirect(pieces, kGuestData + 0x10000);
    g_assert_true(p.queue.take(p.chain) == Taken::Chain);
    p.chain.clear();
    g_assert_cmpuint(p.chain.readable.capacity(), <=, 64);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/virtqueue/a-chain-is-taken-and-given-back", test_a_chain_is_taken_and_given_back);
    g_test_add_func("/virtqueue/indexes-wrap-around", test_indexes_wrap_around);
    g_test_add_func("/virtqueue/indirect-tables-are-followed", test_indirect_tables_are_followed);
    g_test_add_func("/virtqueue/interrupts-are-as-the-driver-wants-them", test_interrupts_are_as_the_driver_wants_them);
    g_test_add_func("/virtqueue/notifications-are-wanted-when-the-device-waits",
                    test_notifications_are_wanted_when_the_device_waits);
    g_test_add_func("/virtqueue/bad-layouts-are-refused", test_bad_layouts_are_refused);
    g_test_add_func("/virtqueue/an-index-that-jumps-breaks-the-queue", test_an_index_that_jumps_breaks_the_queue);
    g_test_add_func("/virtqueue/more-chains-than-descriptors-break-the-queue",
                    test_more_chains_than_descriptors_break_the_queue);
    g_test_add_func("/virtqueue/a-head-out-of-the-table-breaks-the-queue",
                    test_a_head_out_of_the_table_breaks_the_queue);
    g_test_add_func("/virtqueue/loops-break-the-queue", test_loops_break_the_queue);
    g_test_add_func("/virtqueue/bad-descriptors-break-the-queue", test_bad_descriptors_break_the_queue);
    g_test_add_func("/virtqueue/a-table-within-a-table-breaks-the-queue", test_a_table_within_a_table_breaks_the_queue);
    g_test_add_func("/virtqueue/a-chain-is-not-longer-than-the-limit", test_a_chain_is_not_longer_than_the_limit);
    g_test_add_func("/virtqueue/long-chains-do-not-keep-their-memory", test_long_chains_do_not_keep_their_memory);
    return g_test_run();
}

#include "util/co_rwlock.h"

#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> read_and_note(CoRwLock& lock, std::string& order, char c) {
    co_await lock.co_read_lock();
    order += c;
    co_await co_yield_now();
    order += c;
    lock.read_unlock();
}

Task<void> write_and_note(CoRwLock& lock, std::string& order, char c) {
    co_await lock.co_write_lock();
    order += c;
    co_await co_yield_now();
    order += c;
    lock.write_unlock();
}

Task<void> readers_and_a_writer(std::string& order) {
    CoRwLock lock;
    TaskScope scope;
    scope.spawn(read_and_note(lock, order, 'a'));
    scope.spawn(read_and_note(lock, order, 'b'));
    scope.spawn(write_and_note(lock, order, 'W'));
    scope.spawn(read_and_note(lock, order, 'c'));  // after the writer, though readers are inside
    scope.spawn(read_and_note(lock, order, 'd'));
    co_await scope.join();
}

void readers_share_and_a_waiting_writer_keeps_later_readers_out() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, readers_and_a_writer(order));
    g_assert_cmpstr(order.c_str(), ==, "ababWWcdcd");
}

Task<void> downgrade_with_waiters(std::string& order) {
    CoRwLock lock;
    TaskScope scope;
    co_await lock.co_write_lock();
    scope.spawn(read_and_note(lock, order, 'a'));
    scope.spawn(write_and_note(lock, order, 'W'));
    lock.downgrade();
    co_await co_yield_now();
    order += '-';  // the reader is in beside us, the writer is not
    co_await co_sleep(1'000'000);
    order += '-';
    lock.read_unlock();
    co_await scope.join();
}

void downgrade_lets_waiting_readers_in_and_writers_not() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, downgrade_with_waiters(order));
    g_assert_cmpstr(order.c_str(), ==, "a-a-WW");
}

struct Shared {
    CoRwLock lock;
    uint64_t a = 0, b = 0;  // guarded: always equal
    std::atomic<int> readers{0};
    std::atomic<int> most_readers{0};
};

Task<void> read_or_write(Shared& shared, std::minstd_rand random, int rounds) {
    for (int i = 0; i < rounds; i++) {
        if (random() % 4 == 0) {
            co_await shared.lock.co_write_lock();
            g_assert_cmpint(shared.readers, ==, 0);
            shared.a++;
            if (random() % 2)
                co_await co_yield_now();
            shared.b++;
            if (random() % 4 == 0) {
                shared.lock.downgrade();
                g_assert_cmpuint(shared.a, ==, shared.b);
                co_await co_yield_now();
                shared.lock.read_unlock();
            } else {
                shared.lock.write_unlock();
            }
        } else {
            co_await shared.lock.co_read_lock();
            int now = ++shared.readers;
            shared.most_readers = std::max(shared.most_readers.load(), now);
            uint64_t a = shared.a;
            if (random() % 2)
                co_await co_yield_now();
            g_assert_cmpuint(a, ==, shared.b);
            --shared.readers;
            shared.lock.read_unlock();
        }
    }
}

void many_threads_read_and_write() {
    Contexts contexts(4);
    Shared shared;
    sync_wait(*contexts.home,
              run_everywhere(contexts, 40, [&](unsigned) { return read_or_write(shared, random_numbers(), 300); }));
    g_assert_cmpuint(shared.a, ==, shared.b);
    g_assert_cmpint(shared.most_readers, >, 1);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/co-rwlock/a-waiting-writer-keeps-later-readers-out",
        readers_share_and_a_waiting_writer_keeps_later_readers_out);
    add("/co-rwlock/downgrade-lets-waiting-readers-in", downgrade_lets_waiting_readers_in_and_writers_not);
    add("/co-rwlock/stress", many_threads_read_and_write);
    return g_test_run();
}

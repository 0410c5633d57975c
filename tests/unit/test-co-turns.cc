#include "util/co_turns.h"

#include <atomic>

#include "tests/unit/runtime_test.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<void> begin_in_turn(CoTurns& turns, uint64_t ticket, std::string& order) {
    co_await turns.co_await_turn(ticket);
    order += static_cast<char>('a' + ticket);
    turns.pass(ticket);
}

Task<void> come_in_any_order(std::string& order) {
    CoTurns turns(4);
    TaskScope scope;
    for (uint64_t ticket : {3, 1, 0, 2})
        scope.spawn(begin_in_turn(turns, ticket, order));
    co_await scope.join();
}

void tickets_begin_in_their_order() {
    auto context = make_context();
    std::string order;
    sync_wait(*context, come_in_any_order(order));
    g_assert_cmpstr(order.c_str(), ==, "abcd");
}

struct Line {
    std::atomic<uint64_t> next{0};
    uint64_t begun = 0;  // guarded by whose turn it is
    unsigned most;
    CoTurns turns{most};
};

Task<void> take_tickets(Line& line, uint64_t all) {
    for (uint64_t ticket; (ticket = line.next++) < all;) {
        if (ticket % 3 == 0)
            co_await co_yield_now();
        co_await line.turns.co_await_turn(ticket);
        g_assert_cmpuint(line.begun++, ==, ticket);
        line.turns.pass(ticket);
    }
}

void in_several_contexts_too() {
    Contexts contexts(3);
    for (unsigned workers : {1, 2, 7, 16}) {
        Line line{.most = workers};
        sync_wait(*contexts.home,
                  run_everywhere(contexts, workers, [&](unsigned) { return take_tickets(line, 3000); }));
        g_assert_cmpuint(line.begun, ==, 3000);
    }
}

Task<void> wait_for_ever(CoTurns& turns, uint64_t ticket, std::atomic<unsigned>& ended) {
    co_await turns.co_await_turn(ticket);
    ended++;
    turns.pass(ticket);
}

Task<void> end_it(CoTurns& turns, std::atomic<unsigned>& ended) {
    TaskScope scope;
    for (uint64_t ticket = 1; ticket < 5; ticket++)
        scope.spawn(wait_for_ever(turns, ticket, ended));
    co_await co_yield_now();
    g_assert_cmpuint(ended, ==, 0);
    turns.end();
    co_await scope.join();
    co_await turns.co_await_turn(1000);
}

void after_the_end_nobody_waits() {
    auto context = make_context();
    CoTurns turns(8);
    std::atomic<unsigned> ended{0};
    sync_wait(*context, end_it(turns, ended));
    g_assert_cmpuint(ended, ==, 4);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/co-turns/tickets-begin-in-their-order", tickets_begin_in_their_order);
    add("/co-turns/in-several-contexts-too", in_several_contexts_too);
    add("/co-turns/after-the-end-nobody-waits", after_the_end_nobody_waits);
    return g_test_run();
}

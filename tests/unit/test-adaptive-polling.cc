#include "util/adaptive_polling.h"

#include <glib.h>

using namespace ashlar;

namespace {

constexpr int64_t kSoon = 10, kLate = 1'000'000'000;

void test_growing() {
    const PollParameters parameters;
    PollTime time;
    g_assert_cmpint(time.ns(parameters.max_ns), ==, 0);
    for (int64_t expected : {4000, 8000, 16'000, 32'000, 64'000, 64'000}) {
        time.slept(kSoon, parameters);
        g_assert_cmpint(time.ns(parameters.max_ns), ==, expected);
    }
    for (int64_t expected : {32'000, 16'000, 8000, 4000, 2000, 1000, 0, 0}) {
        time.slept(kLate, parameters);
        g_assert_cmpint(time.ns(parameters.max_ns), ==, expected);
    }
}

void test_factors() {
    const PollParameters parameters{.max_ns = 1'000'000, .grow = 10, .shrink = 100};
    PollTime time;
    for (int64_t expected : {4000, 40'000, 400'000, 1'000'000}) {
        time.slept(kSoon, parameters);
        g_assert_cmpint(time.ns(parameters.max_ns), ==, expected);
    }
    for (int64_t expected : {10'000, 0}) {
        time.slept(kLate, parameters);
        g_assert_cmpint(time.ns(parameters.max_ns), ==, expected);
    }
    PollTime largest;
    for (int i = 0; i < 3; ++i)
        largest.slept(kSoon, {.max_ns = INT64_MAX, .grow = INT64_MAX, .shrink = INT64_MAX});
    g_assert_cmpint(largest.ns(INT64_MAX), ==, INT64_MAX);
}

void test_lower_maximum() {
    PollTime time;
    for (int i = 0; i < 5; ++i)
        time.slept(kSoon, {});
    g_assert_cmpint(time.ns(5000), ==, 5000);
    g_assert_cmpint(time.ns(0), ==, 0);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/adaptive-polling/doubles-and-halves", test_growing);
    g_test_add_func("/adaptive-polling/by-the-factors-that-are-given", test_factors);
    g_test_add_func("/adaptive-polling/a-lower-maximum-counts-at-once", test_lower_maximum);
    return g_test_run();
}

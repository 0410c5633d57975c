#include "block/accounting.h"
#include "tests/unit/block_fixture.h"

using namespace ashlar;

namespace {

constexpr std::string_view kRawOverNull =
    "{'driver': 'raw', 'node-name': 'disk', 'file': {'driver': 'null-co', 'size': 1048576, 'read-zeroes': true}}";

void blocking_requests_reach_the_driver() {
    BlockFixture f;
    auto backend = f.attach(f.add(kRawOverNull));
    g_assert_cmpint(backend->length(), ==, 1 << 20);
    char data[512];
    memset(data, 7, sizeof data);
    g_assert_cmpint(backend->pwrite(0, sizeof data, data), ==, 0);
    g_assert_cmpint(backend->pread(512, sizeof data, data), ==, 0);
    for (char c : data)
        g_assert_cmpint(c, ==, 0);
    g_assert_cmpint(backend->pwrite_zeroes(0, 4096), ==, 0);
    g_assert_cmpint(backend->pdiscard(0, 4096), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);
    f.detach(backend);
}

void requests_outside_are_refused() {
    BlockFixture f;
    auto backend = f.attach(f.add(kRawOverNull));
    char data[512] = {};
    g_assert_cmpint(backend->pread((1 << 20) - 511, 512, data), ==, -EIO);
    g_assert_cmpint(backend->pread(-1, 512, data), ==, -EIO);
    g_assert_cmpint(backend->pread(INT64_MAX, 512, data), ==, -EIO);
    g_assert_cmpint(backend->pwrite(1 << 20, 1, data), ==, -EIO);
    g_assert_cmpint(backend->pread(1 << 20, 0, data), ==, 0);
    g_assert_cmpuint(backend->accounting().counts(BlockAccounting::Type::Read).invalid, ==, 3);
    g_assert_cmpuint(backend->accounting().counts(BlockAccounting::Type::Write).invalid, ==, 1);
    f.detach(backend);
}

void without_a_medium_nothing_works() {
    BlockFixture f;
    BlockBackend backend(*f.graph, "", BlockFixture::kReadWrite);
    char data[512];
    g_assert_cmpint(backend.pread(0, 512, data), ==, -ENOMEDIUM);
    g_assert_cmpint(backend.flush(), ==, -ENOMEDIUM);
    g_assert_cmpint(static_cast<int>(backend.length()), ==, -ENOMEDIUM);
}

void who_did_not_ask_may_not_write() {
    BlockFixture f;
    auto backend = f.attach(f.add(kRawOverNull), BlockFixture::kReadOnly);
    char data[512] = {};
    g_assert_cmpint(backend->pwrite(0, 512, data), ==, -EPERM);
    g_assert_cmpint(backend->pwrite_zeroes(0, 512), ==, -EPERM);
    g_assert_cmpint(backend->pdiscard(0, 512), ==, -EPERM);
    f.detach(backend);
}

struct Counted : Completion {
    int calls = 0;
    Counted() {
        fn = [](Completion& self) { static_cast<Counted&>(self).calls++; };
    }
};

void aio(const char* driver) {
    BlockFixture f;
    auto backend = f.attach(f.add(fmt::format("{{'driver': '{}', 'node-name': 'disk'}}", driver)));
    char data[4096];
    iovec element{data, sizeof data};
    Counted read, write, zeroes, discard, flush, bad;
    backend->aio_preadv(0, 4096, IoVector(element), {}, read);
    backend->aio_pwritev(0, 4096, IoVector(element), {}, write);
    backend->aio_pwrite_zeroes(0, 4096, {}, zeroes);
    backend->aio_pdiscard(0, 4096, discard);
    backend->aio_flush(flush);
    backend->aio_preadv(-1, 4096, IoVector(element), {}, bad);
    auto all = {&read, &write, &zeroes, &discard, &flush, &bad};
    for (Counted* c : all)
        g_assert_cmpint(c->calls, ==, 0);
    while (read.calls + write.calls + zeroes.calls + discard.calls + flush.calls + bad.calls < 6)
        f.context->poll(true);
    for (Counted* c : all) {
        g_assert_cmpint(c->calls, ==, 1);
        g_assert_cmpint(c->ret, ==, c == &bad ? -EIO : 0);
    }
    g_assert_cmpuint(backend->in_flight(), ==, 0);
    f.detach(backend);
}
void completions_come_after_the_call_null_co() {
    aio("null-co");
}
void completions_come_after_the_call_null_aio() {
    aio("null-aio");
}

void requests_are_counted() {
    using Type = BlockAccounting::Type;
    BlockFixture f;
    auto backend = f.attach(f.add(kRawOverNull));
    BlockAccounting& accounting = backend->accounting();
    g_assert_cmpint(accounting.idle_ns(now_ns()), ==, -1);
    const uint64_t boundaries[] = {1, 1'000'000'000'000};
    accounting.set_histogram(Type::Read, boundaries);
    char data[512];
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(backend->pread(i * 512, 512, data), ==, 0);
    g_assert_cmpint(backend->flush(), ==, 0);
    auto reads = accounting.counts(Type::Read);
    g_assert_cmpuint(reads.operations, ==, 3);
    g_assert_cmpuint(reads.bytes, ==, 3 * 512);
    g_assert_cmpuint(reads.time_ns, >, 0);
    g_assert_cmpuint(accounting.counts(Type::Flush).operations, ==, 1);
    g_assert_cmpuint(accounting.counts(Type::Write).operations, ==, 0);
    BlockAccounting::Histogram histogram;
    g_assert_nonnull(accounting.histogram(Type::Read, histogram));
    g_assert_cmpuint(histogram.bins.size(), ==, 3);
    g_assert_cmpuint(histogram.bins[0] + histogram.bins[1], ==, 3);
    g_assert_cmpuint(histogram.bins[2], ==, 0);
    g_assert_null(accounting.histogram(Type::Write, histogram));
    g_assert_cmpint(accounting.idle_ns(now_ns()), >=, 0);
    f.detach(backend);
}

void failures_are_told() {
    BlockFixture f;
    BlockDriverState& node = f.add("{'driver': 'mock', 'node-name': 'disk'}");
    std::vector<std::pair<bool, int>> errors;
    auto backend = std::make_unique<BlockBackend>(*f.graph, "", BlockFixture::kReadWrite);
    backend->set_error_hook([&](bool is_write, int error) { errors.emplace_back(is_write, error); });
    BlockFixture::check(f.run(backend->co_attach(node)));
    char data[512] = {};
    g_assert_cmpint(backend->pread(-1, 512, data), ==, -EIO);  // refused: not an error of the disk
    MockDriver::of(node).fail_with = -EBADMSG;
    g_assert_cmpint(backend->pread(0, 512, data), ==, -EBADMSG);
    MockDriver::of(node).fail_with = -ENOSPC;
    g_assert_cmpint(backend->pwrite(0, 512, data), ==, -ENOSPC);
    MockDriver::of(node).fail_with = 0;
    g_assert_cmpuint(errors.size(), ==, 2);
    g_assert_true(errors[0] == std::pair(false, -EBADMSG));
    g_assert_true(errors[1] == std::pair(true, -ENOSPC));
    f.detach(backend);
    g_assert_cmpuint(errors.size(), ==, 2);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/block-backend/blocking-requests-reach-the-driver", blocking_requests_reach_the_driver);
    g_test_add_func("/block-backend/requests-outside-are-refused", requests_outside_are_refused);
    g_test_add_func("/block-backend/without-a-medium-nothing-works", without_a_medium_nothing_works);
    g_test_add_func("/block-backend/who-did-not-ask-may-not-write", who_did_not_ask_may_not_write);
    g_test_add_func("/block-backend/null-co-completions-come-after-the-call", completions_come_after_the_call_null_co);
    g_test_add_func("/block-backend/null-aio-completions-come-after-the-call",
                    completions_come_after_the_call_null_aio);
    g_test_add_func("/block-backend/requests-are-counted", requests_are_counted);
    g_test_add_func("/block-backend/failures-are-told", failures_are_told);
    return g_test_run();
}

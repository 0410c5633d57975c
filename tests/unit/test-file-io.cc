#include "util/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

#include "tests/unit/forbid.h"
#include "tests/unit/runtime_test.h"
#include "util/buffer_pool.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

constexpr AioMode kModes[] = {AioMode::Threads, AioMode::Native, AioMode::IoUring};

UniqueFd temporary_file(int flags = 0) {
    UniqueFd fd(open(g_get_tmp_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600));
    if (!fd) {
        g_assert_true(errno == EINVAL || errno == EOPNOTSUPP);
        g_test_skip("the temporary directory has no O_TMPFILE with these flags");
    }
    return fd;
}

Task<void> read_and_write(AioMode mode, int fd) {
    std::string data(10000, 'x');
    data[5000] = 'y';
    iovec out[3] = {{data.data(), 1}, {data.data() + 1, 4999}, {data.data() + 5000, 5000}};
    g_assert_cmpint(co_await file_writev(mode, fd, 4096, out, 3, 0), ==, 10000);
    g_assert_cmpint(co_await file_datasync(mode, fd), ==, 0);
    std::string back(20000, 0);
    iovec in[2] = {{back.data(), 3000}, {back.data() + 3000, 17000}};
    g_assert_cmpint(co_await file_readv(mode, fd, 4096, in, 2), ==, 10000);  // what there is
    g_assert_true(back.starts_with(data));
    g_assert_cmpint(co_await file_readv(mode, fd, 1 << 20, in, 2), ==, 0);
    iovec one{data.data(), 100};
    g_assert_cmpint(co_await file_writev(mode, fd, 0, &one, 1, RWF_DSYNC), ==, 100);
    g_assert_cmpint(co_await file_readv(mode, fd, 99, in, 1), ==, 3000);
    g_assert_cmpint(back[0], ==, 'x');
    g_assert_cmpint(back[1], ==, 0);
}

void every_mode_reads_what_it_wrote() {
    auto context = make_context();
    for (AioMode mode : kModes) {
        UniqueFd fd = temporary_file();
        sync_wait(*context, read_and_write(mode, fd.get()));
    }
}

Task<void> change_allocation(AioMode mode, int fd) {
    g_assert_cmpint(co_await file_fallocate(mode, fd, 0, 0, 1 << 20), ==, 0);
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1 << 20);
    g_assert_cmpint(st.st_blocks * 512, >=, 1 << 20);
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    g_assert_cmpint(co_await file_fallocate(mode, fd, kPunch, 0, 1 << 20), ==, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 1 << 20);
}

void every_mode_allocates_and_punches() {
    auto context = make_context();
    for (AioMode mode : kModes) {
        UniqueFd fd = temporary_file();
        sync_wait(*context, change_allocation(mode, fd.get()));
    }
}

Task<void> fail_everything(AioMode mode) {
    UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    char byte = 0;
    iovec iov{&byte, 1};
    g_assert_cmpint(co_await file_writev(mode, fd.get(), 0, &iov, 1, 0), ==, -EBADF);
    int closed = fd.get();
    fd.reset();
    g_assert_cmpint(co_await file_readv(mode, closed, 0, &iov, 1), ==, -EBADF);
    g_assert_cmpint(co_await file_datasync(mode, closed), ==, -EBADF);
    g_assert_cmpint(co_await file_fallocate(mode, closed, 0, 0, 1), ==, -EBADF);
}

void errors_come_as_negative_errno() {
    auto context = make_context();
    for (AioMode mode : kModes)
        sync_wait(*context, fail_everything(mode));
}

Task<void> write_block(AioMode mode, int fd, unsigned i) {
    Buffer buffer(4096);
    std::memset(buffer.data(), static_cast<int>(i % 251), buffer.size());
    iovec iov{buffer.data(), buffer.size()};
    g_assert_cmpint(co_await file_writev(mode, fd, int64_t{4096} * i, &iov, 1, 0), ==, 4096);
}

Task<void> read_block(AioMode mode, int fd, unsigned i) {
    Buffer buffer(4096);
    iovec iov{buffer.data(), buffer.size()};
    g_assert_cmpint(co_await file_readv(mode, fd, int64_t{4096} * i, &iov, 1), ==, 4096);
    for (std::byte byte : buffer.span())
        g_assert_cmpint(static_cast<int>(byte), ==, i % 251);
}

// More at once than the kernel's queues hold, from several threads.
void all_complete_however_many_there_are(int flags) {
    constexpr unsigned kBlocks = 4000;
    for (AioMode mode : kModes) {
        UniqueFd fd = temporary_file(flags);
        if (!fd)
            return;
        Contexts contexts(1);
        sync_wait(*contexts.home,
                  run_everywhere(contexts, kBlocks, [&](unsigned i) { return write_block(mode, fd.get(), i); }));
        sync_wait(*contexts.home,
                  run_everywhere(contexts, kBlocks, [&](unsigned i) { return read_block(mode, fd.get(), i); }));
    }
}

void all_complete_through_the_page_cache() {
    all_complete_however_many_there_are(0);
}

void all_complete_without_the_page_cache() {
    all_complete_however_many_there_are(O_DIRECT);
}

Task<void> write_some_of_what_is_allocated(int fd) {
    char data[4096] = {'x'};
    iovec iov{data, sizeof(data)};
    g_assert_cmpint(co_await file_writev(AioMode::Threads, fd, 1 << 20, &iov, 1, 0, 1 << 20), ==, sizeof(data));
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, (1 << 20) + sizeof(data));
    g_assert_cmpint(st.st_blocks * 512, >=, 1 << 20);
    g_assert_cmpint(st.st_blocks * 512, <, 2 << 20);
}

// In a child, which has no threads of other tests in its pool.
void a_thread_makes_the_calls_itself() {
    std::string said = in_child([] {
        auto context = make_context();
        set_own_work(OwnWork::BlockingCalls);
        for (AioMode mode : {AioMode::Threads, AioMode::IoUring}) {
            UniqueFd fd = temporary_file();
            sync_wait(*context, read_and_write(mode, fd.get()));
            sync_wait(*context, change_allocation(mode, fd.get()));
        }
        UniqueFd fd = temporary_file();
        sync_wait(*context, write_some_of_what_is_allocated(fd.get()));
        g_assert_cmpuint(ThreadPool::instance().threads(), ==, 0);
    });
    g_assert_cmpstr(said.c_str(), ==, "");
}

void a_write_may_allocate_more_than_it_writes() {
    auto context = make_context();
    UniqueFd fd = temporary_file();
    sync_wait(*context, write_some_of_what_is_allocated(fd.get()));
}

void modes_that_cannot_be_served_are_refused() {
    auto context = make_context();
    g_assert_true(check_aio_mode(AioMode::Threads, false).has_value());
    auto refused = check_aio_mode(AioMode::Native, false);
    g_assert_false(refused.has_value());
    g_assert_cmpstr(refused.error().message.c_str(), ==,
                    "aio=native was specified, but it requires cache.direct=on, which was not specified.");
    g_assert_true(check_aio_mode(AioMode::Native, true).has_value());
    g_assert_cmpint(check_aio_mode(AioMode::IoUring, false).has_value(), ==, context->has_uring());
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    add("/file-io/a-thread-makes-the-calls-itself", a_thread_makes_the_calls_itself);
    add("/file-io/every-mode-reads-what-it-wrote", every_mode_reads_what_it_wrote);
    add("/file-io/every-mode-allocates-and-punches", every_mode_allocates_and_punches);
    add("/file-io/a-write-may-allocate-more-than-it-writes", a_write_may_allocate_more_than_it_writes);
    add("/file-io/errors-come-as-negative-errno", errors_come_as_negative_errno);
    add("/file-io/modes-that-cannot-be-served-are-refused", modes_that_cannot_be_served_are_refused);
    add("/file-io/stress/page-cache", all_complete_through_the_page_cache);
    add("/file-io/stress/direct", all_complete_without_the_page_cache);
    return g_test_run();
}

// Which engine a context gets where io_uring is refused: a child process forbids the system calls, as containers do.
#include <fcntl.h>
#include <sys/syscall.h>

#include "tests/unit/forbid.h"
#include "tests/unit/runtime_test.h"
#include "util/file_io.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

Task<int> write_a_byte(int fd) {
    char byte = 'x';
    iovec iov{&byte, 1};
    co_return co_await file_writev(AioMode::Threads, fd, 0, &iov, 1, 0);
}

Task<int> send_a_byte() {
    SocketPair pair;
    co_await send_text(pair.a, "x");
    std::byte byte[1];
    co_await co_sleep(1);  // a deadline, for which newer system calls may be forbidden too
    co_return co_await pair.b.recv(byte);
}

void work_without_io_uring() {
    auto context = AioContext::create();
    g_assert_true(context.has_value());
    g_assert_true((*context)->engine_kind() == AioContext::EngineKind::Epoll);
    auto thread = IOThread::create("t");
    g_assert_true(thread.has_value());
    g_assert_true((*thread)->context().engine_kind() == AioContext::EngineKind::Epoll);
    UniqueFd fd(open(g_get_tmp_dir(), O_TMPFILE | O_RDWR, 0600));
    g_assert_cmpint(sync_wait(**context, write_a_byte(fd.get())), ==, 1);
    g_assert_cmpint(sync_wait(**context, send_a_byte()), ==, 1);
    auto refused = check_aio_mode(AioMode::IoUring, false);
    g_assert_cmpstr(refused.error().message.c_str(), ==,
                    "aio=io_uring was specified, but is not available on this system: use aio=threads");
}

void a_refusal_is_said_once_and_epoll_takes_over() {
    g_unsetenv("ASHLAR_AIO_ENGINE");
    std::string said = in_child([] {
        forbid(__NR_io_uring_setup, EPERM);
        work_without_io_uring();
    });
    g_assert_cmpstr(said.c_str(), ==,
                    "ashlar: info: io_uring: Operation not permitted; using epoll and threads instead\n");
}

void a_kernel_without_io_uring_is_no_different() {
    g_unsetenv("ASHLAR_AIO_ENGINE");
    std::string said = in_child([] {
        forbid(__NR_io_uring_setup, ENOSYS);
        forbid(__NR_epoll_pwait2, ENOSYS);
        work_without_io_uring();
    });
    g_assert_cmpstr(said.c_str(), ==,
                    "ashlar: info: io_uring: Function not implemented; using epoll and threads instead\n");
}

void asking_for_io_uring_is_refused_with_the_reason() {
    std::string said = in_child([] {
        forbid(__NR_io_uring_setup, EPERM);
        auto context = AioContext::create(AioContext::EngineKind::IoUring);
        g_assert_false(context.has_value());
        g_assert_cmpstr(context.error().message.c_str(), ==, "io_uring: Operation not permitted");
    });
    g_assert_cmpstr(said.c_str(), ==, "");
}

void a_kernel_that_gives_no_linux_aio_is_told_of() {
    std::string said = in_child([] {
        forbid(__NR_io_setup, EAGAIN);
        auto context = AioContext::create(AioContext::EngineKind::Epoll);
        g_assert_true(context.has_value());
        auto refused = check_aio_mode(AioMode::Native, true);
        g_assert_false(refused.has_value());
        g_assert_cmpstr(refused.error().message.c_str(), ==, "aio=native: io_setup: Resource temporarily unavailable");
        g_assert_cmpstr(refused.error().hint.c_str(), ==, "Raise /proc/sys/fs/aio-max-nr, or use aio=threads.");
    });
    g_assert_cmpstr(said.c_str(), ==, "");
}

void the_environment_chooses_the_engine() {
    g_setenv("ASHLAR_AIO_ENGINE", "epoll", TRUE);
    auto context = AioContext::create();
    g_assert_true(context.has_value());
    g_assert_true((*context)->engine_kind() == AioContext::EngineKind::Epoll);
    g_setenv("ASHLAR_AIO_ENGINE", "kqueue", TRUE);
    auto wrong = AioContext::create();
    g_assert_false(wrong.has_value());
    g_assert_cmpstr(wrong.error().message.c_str(), ==, "ASHLAR_AIO_ENGINE: 'kqueue' is neither 'io_uring' nor 'epoll'");
    g_unsetenv("ASHLAR_AIO_ENGINE");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/aio-engine/a-refusal-is-said-once-and-epoll-takes-over",
                    a_refusal_is_said_once_and_epoll_takes_over);
    g_test_add_func("/aio-engine/a-kernel-without-io-uring-is-no-different", a_kernel_without_io_uring_is_no_different);
    g_test_add_func("/aio-engine/asking-for-io-uring-is-refused-with-the-reason",
                    asking_for_io_uring_is_refused_with_the_reason);
    g_test_add_func("/aio-engine/no-linux-aio-is-refused-with-the-way-out",
                    a_kernel_that_gives_no_linux_aio_is_told_of);
    g_test_add_func("/aio-engine/the-environment-chooses", the_environment_chooses_the_engine);
    return g_test_run();
}

#include "block/file/host_file.h"
#include "block/file/image_lock.h"
#include "block/file/io_progress.h"
#include "block/file/lock_holder.h"
#include "block/file/probe.h"
#include "block/file/reopen_fd.h"
#include "tests/unit/assert_text.h"
#include "tests/unit/temp_dir.h"
#include "util/buffer_pool.h"
#include "util/sync_wait.h"

#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstring>
#include <fstream>
#include <vector>

using namespace ashlar;

namespace {

constexpr int64_t kMiB = 1 << 20;

std::unique_ptr<AioContext> make_context() {
    auto context = AioContext::create();
    g_assert_true(context.has_value());
    return std::move(*context);
}

UniqueFd open_file(const std::string& name, int flags = O_RDWR | O_CREAT) {
    UniqueFd fd(open(name.c_str(), flags | O_CLOEXEC, 0600));
    if (!fd)
        g_error("%s: %s", name.c_str(), g_strerror(errno));
    return fd;
}

// An open file and the blocking forms of its operations.
struct Fixture {
    TempDir dir;
    std::unique_ptr<AioContext> context = make_context();
    std::string name = dir.file("disk.img");
    std::unique_ptr<HostFile> file;

    explicit Fixture(AioMode aio = AioMode::IoUring, std::string parent = std::filesystem::current_path())
        : dir(std::move(parent)) {
        file = make(open_file(name), aio, false);
    }

    std::unique_ptr<HostFile> make(UniqueFd fd, AioMode aio, bool direct) {
        auto examined = HostFile::examine(std::move(fd), name, aio, direct);
        if (!examined)
            g_error("%s", examined.error().message.c_str());
        return std::make_unique<HostFile>(std::move(*examined), name);
    }
    void reprobe() { file = make(open_file(name), file->aio(), false); }

    int write(int64_t offset, std::string_view data, RequestFlags flags = {}) {
        iovec element{const_cast<char*>(data.data()), data.size()};
        return sync_wait(*context,
                         file->co_pwritev(offset, static_cast<int64_t>(data.size()), IoVector(element), flags));
    }
    std::string read(int64_t offset, size_t bytes) {
        std::string data(bytes, '?');
        iovec element{data.data(), bytes};
        int ret = sync_wait(*context, file->co_preadv(offset, static_cast<int64_t>(bytes), IoVector(element)));
        return ret < 0 ? std::string(g_strerror(-ret)) : data;
    }
    int zero(int64_t offset, int64_t bytes, RequestFlags flags = {}) {
        return sync_wait(*context, file->co_pwrite_zeroes(offset, bytes, flags));
    }
    int discard(int64_t offset, int64_t bytes) { return sync_wait(*context, file->co_pdiscard(offset, bytes)); }
    int flush() { return sync_wait(*context, file->co_flush()); }
    BlockStatus status(int64_t offset, int64_t bytes) {
        return sync_wait(*context, file->co_block_status(true, offset, bytes));
    }
    Result<> truncate(int64_t size, PreallocMode prealloc = PreallocMode::Off) {
        return sync_wait(*context, file->co_truncate(size, true, prealloc));
    }
};

void assert_status(const BlockStatus& status, unsigned kind, int64_t bytes) {
    g_assert_cmpuint(status.flags & (BlockStatus::Data | BlockStatus::Zero), ==, kind);
    g_assert_cmpint(status.bytes, ==, bytes);
}

// --- reading and writing ---

void test_read_back(gconstpointer mode) {
    Fixture f(static_cast<AioMode>(GPOINTER_TO_INT(mode)));
    g_assert_cmpint(f.write(1000, "hello"), ==, 0);
    g_assert_cmpint(f.write(2000, "durable", RequestFlags::Fua), ==, 0);
    g_assert_cmpint(f.flush(), ==, 0);
    assert_text(f.read(999, 7), std::string_view("\0hello\0", 7));
    assert_text(f.read(2000, 7), "durable");
}

void test_read_past_end() {
    Fixture f;
    f.write(0, "abc");
    assert_text(f.read(1, 5), std::string_view("bc\0\0\0", 5));
    assert_text(f.read(100, 3), std::string_view("\0\0\0", 3));
}

void test_progress() {
    char a[3] = {1, 1, 1}, b[1] = {1}, c[4] = {1, 1, 1, 1};
    iovec elements[] = {{a, 3}, {b, 1}, {c, 4}};
    IoProgress progress(IoVector(elements, 3));
    progress.advance(2);
    g_assert_cmpuint(progress.rest().count, ==, 3);
    progress.advance(3);
    g_assert_cmpuint(progress.rest().count, ==, 1);
    g_assert_true(progress.rest().iov->iov_base == c + 1);
    progress.fill_zero();
    g_assert_cmpmem(c, 4, "\1\0\0\0", 4);
    g_assert_cmpint(a[2], ==, 1);
    g_assert_cmpuint(elements[0].iov_len, ==, 3);  // the caller's are not touched
}

// The kernel stops a write at the file size limit: first short, then with an error.
void test_short_write() {
    Fixture f;
    signal(SIGXFSZ, SIG_IGN);
    rlimit unlimited;
    getrlimit(RLIMIT_FSIZE, &unlimited);
    rlimit limit{kMiB, unlimited.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    int ret = f.write(kMiB - 4096, std::string(8192, 'x'));
    setrlimit(RLIMIT_FSIZE, &unlimited);
    g_assert_cmpint(ret, ==, -EFBIG);
    g_assert_cmpint(f.file->length(), ==, kMiB);  // the first half was written
    g_assert_cmpint(f.flush(), ==, 0);
}

void test_write_error() {
    Fixture f;
    f.file = f.make(open_file(f.name, O_RDONLY), AioMode::IoUring, false);
    g_assert_cmpint(f.write(0, "x"), ==, -EBADF);
}

// The kernel tells of a failed write-back once; what was lost stays lost.
void test_flush_error_stays() {
    Fixture f;
    int ends[2];
    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    UniqueFd read_end(ends[0]);
    HostFile file({.fd = UniqueFd(ends[1])}, f.name);  // cannot be synchronised
    g_assert_cmpint(sync_wait(*f.context, file.co_flush()), ==, -EINVAL);
    auto good = HostFile::examine(open_file(f.name), f.name, AioMode::Threads, false);
    file.replace(std::move(*good));
    g_assert_cmpint(sync_wait(*f.context, file.co_flush()), ==, -EINVAL);
}

// --- O_DIRECT ---

void test_direct() {
    Fixture f;
    g_assert_true(f.truncate(kMiB).has_value());
    UniqueFd fd(open(f.name.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    if (!fd) {
        g_assert_cmpint(errno, ==, EINVAL);  // as of a file system that has none
        g_test_skip("no O_DIRECT here");
        return;
    }
    f.file = f.make(std::move(fd), AioMode::IoUring, true);
    const BlockLimits& limits = f.file->limits();
    g_assert_cmpuint(limits.request_alignment, >=, 512);
    g_assert_cmpuint(limits.request_alignment & (limits.request_alignment - 1), ==, 0);
    g_assert_cmpuint(limits.min_mem_alignment, >=, 1);

    uint32_t unit = limits.request_alignment;
    Buffer buffer(2 * unit);
    memset(buffer.data(), 'd', buffer.size());
    iovec element{buffer.data(), unit};
    g_assert_cmpint(sync_wait(*f.context, f.file->co_pwritev(unit, unit, IoVector(element), {})), ==, 0);

    // The end within a block: zeroes behind it.
    g_assert_true(f.truncate(unit + 100).has_value());
    element.iov_len = 2 * unit;
    g_assert_cmpint(sync_wait(*f.context, f.file->co_preadv(unit, 2 * unit, IoVector(element))), ==, 0);
    g_assert_cmpint(static_cast<int>(buffer.data()[99]), ==, 'd');
    for (size_t i = 100; i < buffer.size(); ++i)
        g_assert_cmpint(static_cast<int>(buffer.data()[i]), ==, 0);

    // Preallocation starts where the file ends, aligned or not.
    auto grown = f.truncate(kMiB + 1, PreallocMode::Full);
    g_assert_true(grown.has_value());
    g_assert_cmpint(f.file->length(), ==, kMiB + 1);
}

void test_alignment_of_unaligned_file_systems() {
    // A tmpfs or an empty file accepts any alignment: that is not to be believed.
    UniqueFd fd(memfd_create("ashlar-test", MFD_CLOEXEC));
    auto alignment = probe_direct_alignment(fd.get(), "memfd");
    g_assert_true(alignment.has_value());
    g_assert_cmpuint(alignment->request, >=, 512);
    g_assert_cmpuint(alignment->memory, >=, 4);
}

// --- holes ---

void test_status() {
    Fixture f;
    g_assert_true(f.truncate(4 * kMiB).has_value());
    f.write(kMiB, std::string(kMiB, 'x'));
    g_assert_true(f.file->may_have_holes());
    assert_status(f.status(0, 4 * kMiB), BlockStatus::Zero, kMiB);
    assert_status(f.status(kMiB, 3 * kMiB), BlockStatus::Data, kMiB);
    assert_status(f.status(kMiB + 5, 10), BlockStatus::Data, 10);  // from the extent that is remembered
    assert_status(f.status(2 * kMiB, kMiB), BlockStatus::Zero, kMiB);
    g_assert_cmpint(f.status(kMiB + 5, 10).offset, ==, kMiB + 5);
}

void test_status_after_discard(gconstpointer discard) {
    Fixture f;
    f.write(0, std::string(2 * kMiB, 'x'));
    assert_status(f.status(0, 2 * kMiB), BlockStatus::Data, 2 * kMiB);
    int ret = discard ? f.discard(kMiB, kMiB) : f.zero(kMiB, kMiB, RequestFlags::MayUnmap);
    g_assert_cmpint(ret, ==, 0);
    assert_status(f.status(0, 2 * kMiB), BlockStatus::Data, kMiB);
    assert_status(f.status(kMiB, kMiB), BlockStatus::Zero, kMiB);
    assert_text(f.read(kMiB, 3), std::string_view("\0\0\0", 3));
    g_assert_cmpint(f.file->length(), ==, 2 * kMiB);
    g_assert_cmpint(f.file->allocated_size(), <=, kMiB + 64 * 1024);
}

void test_dense() {
    Fixture f;
    f.write(0, std::string(kMiB, 'x'));
    f.flush();
    f.reprobe();
    g_assert_false(f.file->may_have_holes());
    g_assert_cmpint(f.discard(0, 65536), ==, 0);
    g_assert_true(f.file->may_have_holes());
    assert_status(f.status(0, kMiB), BlockStatus::Zero, 65536);
    f.reprobe();
    g_assert_true(f.file->may_have_holes());

    g_assert_cmpint(fallocate(f.file->fd(), 0, 0, 2 * kMiB), ==, 0);
    f.reprobe();  // every block is there, and not every one is written
    g_assert_true(f.file->may_have_holes());
}

// --- zeroes ---

void test_zeroes() {
    Fixture f;
    f.write(0, std::string(kMiB, 'x'));
    f.flush();
    g_assert_cmpint(f.zero(1000, 100000, RequestFlags::NoFallback), ==, 0);
    assert_text(f.read(999, 2), std::string_view("x\0", 2));
    assert_text(f.read(100999, 2), std::string_view("\0x", 2));
    g_assert_cmpint(f.file->allocated_size(), >=, kMiB);  // not without MayUnmap
    g_assert_true(f.file->supports_fast_zero());
}

void test_zeroes_past_end(gconstpointer unmap) {
    Fixture f;
    f.write(0, "abc");
    g_assert_cmpint(f.zero(2, 10, unmap ? RequestFlags::MayUnmap : RequestFlags::None), ==, 0);
    g_assert_cmpint(f.file->length(), ==, 12);
    assert_text(f.read(0, 4), std::string_view("ab\0\0", 4));
    g_assert_cmpint(f.zero(kMiB, kMiB, RequestFlags::Fua), ==, 0);
    g_assert_cmpint(f.file->length(), ==, 2 * kMiB);
}

// A tmpfs has no FALLOC_FL_ZERO_RANGE: a hole is punched and filled.
void test_zeroes_fallback() {
    Fixture f;
    UniqueFd fd(memfd_create("ashlar-test", MFD_CLOEXEC));
    if (fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 0, 4096) == 0)
        g_test_message("this tmpfs has FALLOC_FL_ZERO_RANGE: the fallback is not met");
    g_assert_cmpint(ftruncate(fd.get(), 0), ==, 0);
    f.file = f.make(std::move(fd), AioMode::IoUring, false);
    f.write(0, std::string(kMiB, 'x'));
    for (int i = 0; i < 2; ++i)  // the second time it is known
        g_assert_cmpint(f.zero(4096, 8192, RequestFlags::NoFallback), ==, 0);
    assert_text(f.read(4095, 2), std::string_view("x\0", 2));
    assert_text(f.read(12287, 2), std::string_view("\0x", 2));
    g_assert_cmpint(f.zero(kMiB - 2, 4, {}), ==, 0);
    g_assert_cmpint(f.file->length(), ==, kMiB + 2);
    assert_text(f.read(kMiB - 3, 5), std::string_view("x\0\0\0\0", 5));
    g_assert_true(f.file->supports_fast_zero());
}

// --- truncate ---

void test_truncate() {
    Fixture f;
    g_assert_true(f.truncate(kMiB).has_value());
    g_assert_cmpint(f.file->length(), ==, kMiB);
    g_assert_cmpint(f.file->allocated_size(), <, 65536);
    g_assert_true(f.truncate(2 * kMiB, PreallocMode::Falloc).has_value());
    g_assert_cmpint(f.file->length(), ==, 2 * kMiB);
    g_assert_cmpint(f.file->allocated_size(), >=, kMiB);
    assert_status(f.status(kMiB, kMiB), BlockStatus::Zero, kMiB);
    g_assert_true(f.truncate(5 * kMiB / 2, PreallocMode::Full).has_value());
    assert_status(f.status(2 * kMiB, kMiB / 2), BlockStatus::Data, kMiB / 2);
    g_assert_true(f.truncate(100).has_value());
    g_assert_cmpint(f.file->length(), ==, 100);
}

void test_truncate_refused() {
    Fixture f;
    g_assert_true(f.truncate(kMiB).has_value());
    auto shrunk = f.truncate(4096, PreallocMode::Full);
    g_assert_false(shrunk.has_value());
    assert_text(shrunk.error().message, f.name + ": Preallocation can't be used for shrinking files");
    g_assert_cmpint(shrunk.error().code, ==, ENOTSUP);
    g_assert_cmpint(f.truncate(2 * kMiB, PreallocMode::Metadata).error().code, ==, ENOTSUP);
    g_assert_cmpint(f.file->length(), ==, kMiB);
}

void test_truncate_restores(gconstpointer mode) {
    Fixture f;
    g_assert_true(f.truncate(4096).has_value());
    signal(SIGXFSZ, SIG_IGN);
    rlimit unlimited;
    getrlimit(RLIMIT_FSIZE, &unlimited);
    rlimit limit{3 * kMiB / 2, unlimited.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto grown = f.truncate(2 * kMiB, static_cast<PreallocMode>(GPOINTER_TO_INT(mode)));
    setrlimit(RLIMIT_FSIZE, &unlimited);
    g_assert_false(grown.has_value());
    g_assert_cmpint(grown.error().code, ==, EFBIG);
    g_assert_cmpint(f.file->length(), ==, 4096);
}

// --- reopening ---

void test_reopen_renamed() {
    Fixture f;
    f.write(0, "mine");
    std::filesystem::rename(f.name, f.dir.file("other"));
    std::ofstream(f.name) << "theirs";
    auto fd = reopen_fd(f.file->fd(), f.name, O_RDONLY);
    g_assert_true(fd.has_value());
    auto description = HostFile::examine(std::move(*fd), f.name, AioMode::Threads, false);
    g_assert_true(description.has_value());
    f.file->replace(std::move(*description));
    assert_text(f.read(0, 4), "mine");
    g_assert_cmpint(f.write(0, "x"), ==, -EBADF);
}

// --- locking ---

constexpr BlockPerm kReadWrite = BlockPerm::ConsistentRead | BlockPerm::Write;

ImageLock make_lock(const std::string& name, LockingMode mode = LockingMode::Auto) {
    UniqueFd fd = open_file(name);
    auto lock = ImageLock::create(fd.get(), name, mode);
    g_assert_true(lock.has_value());
    return std::move(*lock);
}

// A process that holds what `perm` and `shared` say until it is destroyed.
class OtherProcess {
public:
    OtherProcess(const std::string& name, BlockPerm perm, BlockPerm shared) {
        int ready[2];
        g_assert_cmpint(pipe2(ready, O_CLOEXEC), ==, 0);
        pid_ = fork();
        if (pid_ == 0) {
            ImageLock lock = make_lock(name);
            bool locked = lock.prepare(perm, shared).has_value();
            lock.commit();
            if (!locked || write(ready[1], "", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        close(ready[1]);
        char byte;
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        close(ready[0]);
    }
    ~OtherProcess() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    pid_t pid() const { return pid_; }

private:
    pid_t pid_;
};

void test_lock_refusal() {
    TempDir dir;
    std::string name = dir.file("disk.img");
    open_file(name);
    OtherProcess writer(name, kReadWrite, BlockPerm::ConsistentRead);

    ImageLock lock = make_lock(name);
    auto refused = lock.prepare(kReadWrite, BlockPerm::All);
    g_assert_false(refused.has_value());
    assert_text(refused.error().message,
                fmt::format("{}: Failed to get \"write\" lock: held by test-file-posix (pid {})", name, writer.pid()));
    assert_text(refused.error().hint.substr(0, refused.error().hint.find('\n')),
                fmt::format("Is another process using the image [{}]?", name));

    refused = lock.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead);
    g_assert_false(refused.has_value());
    g_assert_nonnull(strstr(refused.error().message.c_str(), "Failed to get shared \"write\" lock"));

    g_assert_true(lock.prepare(BlockPerm::ConsistentRead, BlockPerm::All).has_value());
    lock.commit();
}

void test_lock_readers() {
    TempDir dir;
    std::string name = dir.file("disk.img");
    open_file(name);
    OtherProcess reader(name, BlockPerm::ConsistentRead, BlockPerm::ConsistentRead);
    ImageLock second = make_lock(name);
    g_assert_true(second.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead).has_value());
    second.commit();
    ImageLock third = make_lock(name);
    auto refused = third.prepare(BlockPerm::Write, BlockPerm::All);
    g_assert_false(refused.has_value());
    ImageLock without = make_lock(name, LockingMode::Off);
    g_assert_true(without.prepare(BlockPerm::Write, BlockPerm::None).has_value());
}

void test_lock_transaction() {
    TempDir dir;
    std::string name = dir.file("disk.img");
    open_file(name);
    ImageLock a = make_lock(name), b = make_lock(name);
    g_assert_true(a.prepare(kReadWrite, BlockPerm::All).has_value());
    a.commit();

    // What an aborted preparation took is given up, and what was held before stays.
    g_assert_true(a.prepare(BlockPerm::ConsistentRead, BlockPerm::None).has_value());
    a.abort();
    g_assert_true(b.prepare(kReadWrite, BlockPerm::All).has_value());
    b.abort();
    g_assert_false(b.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead).has_value());

    // Committed, a change gives up what is not wanted any more.
    g_assert_true(a.prepare(BlockPerm::ConsistentRead, BlockPerm::All).has_value());
    g_assert_false(b.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead).has_value());
    a.commit();
    auto taken = b.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead);
    g_assert_true(taken.has_value());
    b.commit();

    auto refused = a.prepare(kReadWrite, BlockPerm::All);
    g_assert_false(refused.has_value());
    g_assert_nonnull(strstr(refused.error().message.c_str(), "held by this process"));
}

// --- locking against QEMU ---

std::string run(const std::string& command, int* status) {
    char *output = nullptr, *errors = nullptr;
    const char* argv[] = {"sh", "-c", command.c_str(), nullptr};
    GError* error = nullptr;
    if (!g_spawn_sync(nullptr, const_cast<char**>(argv), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &output,
                      &errors, status, &error))
        g_error("%s", error->message);
    std::string all = std::string(output) + errors;
    g_free(output);
    g_free(errors);
    return all;
}

bool have_qemu_io() {
    int status;
    run("qemu-io --version && qemu-img --version", &status);
    if (status != 0)
        g_test_skip("there is no qemu-io");
    return status == 0;
}

void test_qemu_is_refused() {
    if (!have_qemu_io())
        return;
    TempDir dir;
    std::string name = dir.file("disk.qcow2");
    int status;
    run("qemu-img create -f qcow2 " + name + " 1M", &status);
    g_assert_cmpint(status, ==, 0);
    ImageLock lock = make_lock(name);
    g_assert_true(lock.prepare(kReadWrite, BlockPerm::ConsistentRead).has_value());
    lock.commit();
    std::string output = run("qemu-io -c 'write 0 512' " + name, &status);
    g_assert_nonnull(strstr(output.c_str(), "Failed to get \"write\" lock"));
    output = run("qemu-img info " + name, &status);
    g_assert_nonnull(strstr(output.c_str(), "Failed to get shared \"write\" lock"));

    g_assert_true(lock.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead).has_value());
    lock.commit();
    output = run("qemu-io -c 'write 0 512' " + name, &status);
    g_assert_nonnull(strstr(output.c_str(), "Failed to get \"write\" lock"));
    run("qemu-io -r -c 'read 0 512' " + name, &status);
    g_assert_cmpint(status, ==, 0);
}

void test_qemu_refuses() {
    if (!have_qemu_io())
        return;
    TempDir dir;
    std::string name = dir.file("disk.qcow2");
    int status;
    run("qemu-img create -f qcow2 " + name + " 1M", &status);
    g_assert_cmpint(status, ==, 0);
    const char* argv[] = {"qemu-io", name.c_str(), nullptr};
    GPid pid;
    int input, output;
    g_assert_true(g_spawn_async_with_pipes(nullptr, const_cast<char**>(argv), nullptr,
                                           static_cast<GSpawnFlags>(G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD),
                                           nullptr, nullptr, &pid, &input, &output, nullptr, nullptr));
    g_assert_cmpint(write(input, "read 0 512\n", 11), ==, 11);
    std::string seen;
    for (char byte; seen.find("512/512") == std::string::npos && read(output, &byte, 1) == 1;)
        seen += byte;

    ImageLock lock = make_lock(name);
    auto refused = lock.prepare(kReadWrite, BlockPerm::All);
    g_assert_false(refused.has_value());
    assert_text(refused.error().message,
                fmt::format("{}: Failed to get \"write\" lock: held by qemu-io (pid {})", name, pid));
    refused = lock.prepare(BlockPerm::ConsistentRead, BlockPerm::ConsistentRead);
    g_assert_false(refused.has_value());
    g_assert_nonnull(strstr(refused.error().message.c_str(), "shared \"write\""));
    close(input);
    close(output);
    waitpid(pid, nullptr, 0);
    g_assert_true(lock.prepare(kReadWrite, BlockPerm::ConsistentRead).has_value());
    lock.abort();
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    auto mode = [](AioMode m) { return GINT_TO_POINTER(static_cast<int>(m)); };
    auto prealloc = [](PreallocMode m) { return GINT_TO_POINTER(static_cast<int>(m)); };
    g_test_add_data_func("/file/reads-what-was-written/io_uring", mode(AioMode::IoUring), test_read_back);
    g_test_add_data_func("/file/reads-what-was-written/threads", mode(AioMode::Threads), test_read_back);
    g_test_add_func("/file/reads-zeroes-past-the-end", test_read_past_end);
    g_test_add_func("/file/short-transfer-goes-on-where-it-stopped", test_progress);
    g_test_add_func("/file/short-write-is-continued", test_short_write);
    g_test_add_func("/file/write-error-is-returned", test_write_error);
    g_test_add_func("/file/flush-error-stays", test_flush_error_stays);
    g_test_add_func("/file/direct-alignment-works", test_direct);
    g_test_add_func("/file/alignment-of-one-is-not-believed", test_alignment_of_unaligned_file_systems);
    g_test_add_func("/file/status-tells-data-from-holes", test_status);
    g_test_add_data_func("/file/status-forgets/discard", GINT_TO_POINTER(1), test_status_after_discard);
    g_test_add_data_func("/file/status-forgets/unmapped-zeroes", nullptr, test_status_after_discard);
    g_test_add_func("/file/dense-file-has-no-holes-until-one-is-made", test_dense);
    g_test_add_func("/file/zeroes-stay-allocated", test_zeroes);
    g_test_add_data_func("/file/zeroes-extend-the-file/keep", nullptr, test_zeroes_past_end);
    g_test_add_data_func("/file/zeroes-extend-the-file/unmap", GINT_TO_POINTER(1), test_zeroes_past_end);
    g_test_add_func("/file/zeroes-where-the-file-system-lacks-zero-range", test_zeroes_fallback);
    g_test_add_func("/file/truncate-preallocates", test_truncate);
    g_test_add_func("/file/truncate-refuses-what-makes-no-sense", test_truncate_refused);
    g_test_add_data_func("/file/truncate-restores-the-size/falloc", prealloc(PreallocMode::Falloc),
                         test_truncate_restores);
    g_test_add_data_func("/file/truncate-restores-the-size/full", prealloc(PreallocMode::Full), test_truncate_restores);
    g_test_add_func("/file/reopen-follows-the-file-not-the-name", test_reopen_renamed);
    g_test_add_func("/lock/refusal-names-file-mode-and-holder", test_lock_refusal);
    g_test_add_func("/lock/readers-share-and-keep-writers-out", test_lock_readers);
    g_test_add_func("/lock/changes-are-transactions", test_lock_transaction);
    g_test_add_func("/lock/qemu-is-refused", test_qemu_is_refused);
    g_test_add_func("/lock/qemu-refuses-us", test_qemu_refuses);
    return g_test_run();
}

#include "block/accounting.h"
#include "block/file/file_driver.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/temp_dir.h"
#include "util/buffer_pool.h"
#include "util/page_pipe.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <optional>

using namespace ashlar;

namespace {

constexpr int64_t kMiB = 1 << 20;

struct Fixture : BlockFixture {
    TempDir dir = TempDir::on_disk();

    std::string make_file(const char* name, int64_t size = kMiB) {
        std::string path = dir.file(name);
        std::ofstream{path};
        g_assert_cmpint(truncate(path.c_str(), size), ==, 0);
        return path;
    }
    static std::string options(std::string_view path, std::string_view more = "", std::string_view driver = "file") {
        return fmt::format("{{'driver': '{}', 'filename': '{}'{}}}", driver, path, more);
    }
    static std::string as_node(std::string_view name, std::string_view path, std::string_view more = "",
                               std::string_view driver = "file") {
        return options(path, fmt::format(", 'node-name': '{}'{}", name, more), driver);
    }
    std::string attach_error(BlockDriverState& node, ChildPerm perms) {
        BlockBackend backend(*graph, "", perms);
        auto attached = run(backend.co_attach(node));
        g_assert_false(attached.has_value());
        return attached.error().message;
    }
};

void assert_contains(const std::string& text, const char* part) {
    if (text.find(part) == std::string::npos)
        g_error("'%s' does not contain '%s'", text.c_str(), part);
}

void reads_and_writes_through_the_graph() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    for (const char* aio : {"threads", "io_uring"}) {
        if (std::string_view(aio) == "io_uring" && !f.context->has_uring())
            continue;
        auto backend = f.attach(f.add(f.as_node("disk", path, fmt::format(", 'aio': '{}'", aio))));
        g_assert_cmpint(backend->length(), ==, kMiB);
        char out[1000], in[1000];
        memset(out, aio[0], sizeof out);
        g_assert_cmpint(backend->pwrite(100, sizeof out, out, RequestFlags::Fua), ==, 0);
        g_assert_cmpint(backend->pread(100, sizeof in, in), ==, 0);
        g_assert_cmpmem(in, sizeof in, out, sizeof out);
        g_assert_cmpint(backend->flush(), ==, 0);
        g_assert_true(backend->can_multi_conn());
        f.detach(backend);
        f.del("disk");
    }
}

// Of a pipe, whose other end nobody reads: what was put there is taken out to be looked at.
std::string contents(PagePipe& pages) {
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    UniqueFd to(pair[0]), from(pair[1]);
    std::string text;
    while (pages.size() > 0) {
        int n = pages.move_to(to.get());
        g_assert_true(n > 0 || n == -EAGAIN);
        char buffer[64 << 10];
        for (ssize_t got; (got = read(from.get(), buffer, sizeof buffer)) > 0;)
            text.append(buffer, static_cast<size_t>(got));
    }
    pages.reset();
    return text;
}

// Asked without the driver, so that a driver that does not give pages is not taken for a kernel that cannot tell.
bool kernel_tells_of_pages(const std::string& path, int64_t written) {
    constexpr long kCachestat = 451;
    if (syscall(kCachestat, -1, nullptr, nullptr, 0) < 0 && errno != EBADF)
        return false;
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    char byte;
    iovec iov{&byte, 1};
    return preadv2(fd.get(), &iov, 1, written, RWF_NOWAIT) == 1 || errno != EOPNOTSUPP;
}

void pages_are_those_of_the_file() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    auto backend = f.attach(f.add(f.as_node("disk", path)));
    std::string data(300'000, 0);
    for (size_t i = 0; i < data.size(); i++)
        data[i] = static_cast<char>(i * 31 >> 3);
    g_assert_cmpint(backend->pwrite(5000, static_cast<int64_t>(data.size()), data.data()), ==, 0);
    PagePipe pages;
    if (!kernel_tells_of_pages(path, 5000)) {
        f.detach(backend);
        g_test_skip("the kernel does not tell what is in the page cache");
        return;
    }
    g_assert_true(backend->try_read_pages(5000, 300'000, pages));
    g_assert_true(contents(pages) == data);
    g_assert_true(backend->try_read_pages(70'001, 100'000, pages));
    g_assert_true(contents(pages) == data.substr(65'001, 100'000));
    // What is not in the page cache is left to those who can wait; so are errors.
    for (auto [offset, bytes] : {std::pair<int64_t, int64_t>{512 << 10, 4096},
                                 {304'000, 100'000},
                                 {kMiB - 4096, 8192},
                                 {-4096, 8192},
                                 {INT64_MAX - 4096, 4096}}) {
        g_assert_false(backend->try_read_pages(offset, bytes, pages));
        pages.reset();
    }
    f.detach(backend);
}

void many_small_reads_are_given_a_map() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    auto backend = f.attach(f.add(f.as_node("disk", path)));
    std::string data(kMiB, 0);
    for (size_t i = 0; i < data.size(); i++)
        data[i] = static_cast<char>(i * 31 >> 3);
    g_assert_cmpint(backend->pwrite(0, kMiB, data.data()), ==, 0);
    if (!kernel_tells_of_pages(path, 0)) {
        f.detach(backend);
        g_test_skip("the kernel does not tell what is in the page cache");
        return;
    }
    std::optional<Gate::Pass> pass;
    for (int i = 0; i < HotMap::kHot - 1; i++)
        g_assert_null(backend->try_map(5000 + i, 4096, pass));
    g_assert_false(pass.has_value());
    const uint64_t before = backend->accounting().counts(BlockAccounting::Type::Read).operations;
    const std::byte* map = backend->try_map(5000, 4096, pass);
    g_assert_nonnull(map);
    g_assert_cmpmem(map, 4096, data.data() + 5000, 4096);
    g_assert_cmpuint(backend->accounting().counts(BlockAccounting::Type::Read).operations, ==, before + 1);
    g_assert_cmpint(backend->pwrite(5005, 5, "other"), ==, 0);
    g_assert_cmpmem(map + 5, 5, "other", 5);
    g_assert_cmpuint(backend->in_flight(), ==, 1);
    pass.reset();
    g_assert_cmpuint(backend->in_flight(), ==, 0);
    auto drained = f.run(f.graph->co_drain(*backend->root()));
    g_assert_null(backend->try_map(5000, 4096, pass));
    drained.end();
    for (auto [offset, bytes] : {std::pair<int64_t, int64_t>{kMiB - 4096, 8192}, {-4096, 8192}, {INT64_MAX - 1, 2}})
        g_assert_null(backend->try_map(offset, bytes, pass));
    g_assert_cmpuint(backend->in_flight(), ==, 0);
    f.detach(backend);
}

void pages_are_not_read_where_requests_are_to_wait() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    auto backend = f.attach(f.add(f.as_node("disk", path)));
    char data[4096] = {1};
    g_assert_cmpint(backend->pwrite(0, sizeof data, data), ==, 0);
    PagePipe pages;
    const bool possible = backend->try_read_pages(0, sizeof data, pages);
    pages.reset();
    {
        auto drained = f.run(f.graph->co_drain(*backend->root()));
        g_assert_false(backend->try_read_pages(0, sizeof data, pages));
        pages.reset();
        drained.end();
    }
    g_assert_cmpint(backend->try_read_pages(0, sizeof data, pages), ==, possible);
    pages.reset();
    f.detach(backend);
    f.del("disk");
    UniqueFd probe(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!probe)
        return;
    backend = f.attach(f.add(f.as_node("direct", path, ", 'cache': {'direct': true}")));
    g_assert_false(backend->try_read_pages(0, sizeof data, pages));
    f.detach(backend);
}

void direct_takes_any_request() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    UniqueFd probe(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!probe) {
        g_assert_cmpint(errno, ==, EINVAL);  // as of a file system that has none
        g_test_skip("no O_DIRECT here");
        return;
    }
    for (const char* aio : {"", ", 'aio': 'native'"}) {
        auto backend = f.attach(f.add(f.as_node("disk", path, fmt::format(", 'cache': {{'direct': true}}{}", aio))));
        std::string out(10001, 'o'), in(10003, '?');
        g_assert_cmpint(backend->pwrite(777, 10001, out.data() + 0), ==, 0);
        g_assert_cmpint(backend->pread(776, 10003, in.data()), ==, 0);
        g_assert_true(in == std::string(1, '\0') + out + std::string(1, '\0'));
        g_assert_cmpint(backend->flush(), ==, 0);
        g_assert_cmpint(backend->pwrite_zeroes(0, kMiB), ==, 0);
        f.detach(backend);
        f.del("disk");
    }
}

void what_is_no_file_is_refused() {
    Fixture f;
    std::string fifo = f.dir.file("fifo"), socket_path = f.dir.file("socket"), link = f.dir.file("link");
    g_assert_cmpint(mkfifo(fifo.c_str(), 0600), ==, 0);
    g_assert_cmpint(symlink(fifo.c_str(), link.c_str()), ==, 0);
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    g_assert_cmpuint(socket_path.size(), <, sizeof address.sun_path);
    strcpy(address.sun_path, socket_path.c_str());
    g_assert_cmpint(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), ==, 0);

    struct {
        std::string path;
        const char* what;
    } cases[] = {{f.dir.file("."), "a directory"},
                 {fifo, "a FIFO"},
                 {link, "a FIFO"},
                 {socket_path, "a socket"},
                 {"/dev/null", "a character device"}};
    for (const auto& c : cases) {
        assert_text(f.add_error(f.as_node("n", c.path)),
                    fmt::format("'file' driver requires '{}' to be a regular file, but it is {}", c.path, c.what));
        assert_text(
            f.add_error(f.as_node("n", c.path, "", "host_device")),
            fmt::format("'host_device' driver requires '{}' to be a block device, but it is {}", c.path, c.what));
    }
    std::string path = f.make_file("disk.img");
    assert_contains(f.add_error(f.as_node("n", path, "", "host_device")), "but it is a regular file");
    std::string missing = f.dir.file("missing");
    assert_text(f.add_error(f.as_node("n", missing)), "Could not open '" + missing + "': No such file or directory");
}

void options_are_checked() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    assert_text(f.add_error(f.as_node("n", path, ", 'aio': 'native'")),
                "aio=native was specified, but it requires cache.direct=on, which was not specified.");
    assert_contains(f.add_error(f.as_node("n", path, ", 'aio': 'posix'")), "'aio' does not accept value 'posix'");
    assert_contains(f.add_error(f.as_node("n", path, ", 'lock': 'on'")), "'lock' is unexpected");
    assert_contains(f.add_error("{'driver': 'file', 'node-name': 'n'}"), "'filename' is missing");
}

// A file that nobody, not even root, may write.
struct Unwritable {
    UniqueFd fd;
    bool immutable = false;

    explicit Unwritable(const std::string& path) : fd(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        chmod(path.c_str(), 0400);
        if (geteuid() == 0)
            immutable = change(true);
    }
    ~Unwritable() {
        if (immutable)
            change(false);
    }
    bool change(bool on) {
        int flags = 0;
        if (ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) < 0)
            return false;
        flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        return ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
    }
};

void auto_read_only_falls_back() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    Unwritable unwritable(path);
    if (geteuid() == 0 && !unwritable.immutable) {
        g_test_skip("root may write everything here");
        return;
    }
    assert_contains(f.add_error(f.as_node("n", path)), "Could not open");
    BlockDriverState& node = f.add(f.as_node("n", path, ", 'auto-read-only': true"));
    g_assert_true(node.is_read_only());
    assert_contains(f.attach_error(node, f.kReadWrite), "read-only");
    auto reader = f.attach(node, f.kReadOnly);
    f.detach(reader);
}

void writes_extend_the_file() {
    Fixture f;
    std::string path = f.make_file("disk.img", 1000);
    auto backend = f.attach(f.add(f.as_node("disk", path)),
                            {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
    g_assert_cmpint(backend->length(), ==, 1000);
    g_assert_true(backend->truncate(kMiB, true, PreallocMode::Off).has_value());
    g_assert_cmpint(backend->length(), ==, kMiB);
    backend->set_allow_write_beyond_end(true);
    g_assert_cmpint(backend->pwrite(kMiB + 10, 3, "abc"), ==, 0);
    g_assert_cmpint(backend->length(), ==, kMiB + 13);
    g_assert_cmpint(backend->pwrite_zeroes(2 * kMiB, 4096, RequestFlags::NoFallback), ==, 0);
    g_assert_cmpint(backend->length(), ==, 2 * kMiB + 4096);
    f.detach(backend);
}

// The file is cut off by somebody else.
void file_cut_off_reads_as_zeroes() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    auto backend = f.attach(f.add(f.as_node("disk", path)));
    g_assert_cmpint(backend->pwrite(8000, 3, "abc"), ==, 0);
    g_assert_cmpint(truncate(path.c_str(), 8001), ==, 0);
    char data[4] = "???";
    g_assert_cmpint(backend->pread(8000, 3, data), ==, 0);
    g_assert_cmpmem(data, 3, "a\0\0", 3);
    f.detach(backend);
}

void lock_follows_the_permissions() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    BlockDriverState& one = f.add(f.as_node("one", path));
    BlockDriverState& other = f.add(f.as_node("other", path));
    BlockDriverState& unlocked = f.add(f.as_node("unlocked", path, ", 'locking': 'off'"));
    constexpr ChildPerm kAlone{BlockPerm::ConsistentRead | BlockPerm::Write, BlockPerm::ConsistentRead};

    auto writer = f.attach(one, kAlone);
    std::string message = f.attach_error(other, kAlone);
    assert_contains(message, "Failed to get \"write\" lock: held by this process");
    assert_contains(message, path.c_str());
    auto reader = f.attach(other, f.kReadOnly);
    f.detach(reader);
    auto careless = f.attach(unlocked, kAlone);
    f.detach(careless);

    auto weaker = writer->set_perms(f.kReadOnly);
    g_assert_true(weaker.has_value());
    auto next = f.attach(other, kAlone);
    assert_contains(writer->set_perms(kAlone).error().message, "Failed to get \"write\" lock");
    char data[1];
    g_assert_cmpint(writer->pread(0, 1, data), ==, 0);  // has what it had
    f.detach(writer);
    f.detach(next);
}

void reopen_changes_access() {
    Fixture f;
    std::string path = f.make_file("disk.img");
    BlockDriverState& node = f.add(f.as_node("disk", path));
    auto reopen = [&](std::string_view more) {
        std::vector<Json> all{f.check(parse_json_object(f.as_node("disk", path, more)))};
        return f.run(f.graph->co_blockdev_reopen(std::move(all), Typing::Strict));
    };
    auto backend = f.attach(node, f.kReadOnly);
    f.check(reopen(", 'read-only': true, 'aio': 'threads'"));
    g_assert_true(backend->is_read_only());
    char data[1];
    g_assert_cmpint(backend->pread(0, 1, data), ==, 0);
    f.check(reopen(""));
    g_assert_true(backend->set_perms(f.kReadWrite).has_value());
    g_assert_cmpint(backend->pwrite(0, 1, "x"), ==, 0);

    assert_contains(reopen(", 'locking': 'off'").error().message, "Cannot change the option 'locking'");
    assert_contains(reopen(", 'aio': 'native'").error().message, "requires cache.direct=on");
    std::string other = f.make_file("other.img");
    std::vector<Json> all{f.check(parse_json_object(f.as_node("disk", other)))};
    auto moved = f.run(f.graph->co_blockdev_reopen(std::move(all), Typing::Strict));
    assert_contains(moved.error().message, "Cannot change the option 'filename'");
    g_assert_cmpint(backend->pwrite(0, 1, "y"), ==, 0);
    f.detach(backend);
}

void names_choose_the_driver() {
    Fixture f;
    std::string path = f.make_file("a:b.img");
    auto type_of = [&](const std::string& name) {
        auto type = f.registry.protocol_for(name);
        return type ? std::string((*type)->name) : type.error().message;
    };
    assert_text(type_of(path), "file");
    assert_text(type_of("file:" + path), "file");
    assert_text(type_of("host_device:/dev/x"), "host_device");
    if (struct stat st; stat("/dev/loop0", &st) == 0)
        assert_text(type_of("/dev/loop0"), "host_device");
    BlockDriverState& node = f.add(f.as_node("n", path));
    assert_text(node.filename(), path);
}

// --- devices ---

// A loop device over a file, detached when its descriptor is closed.
UniqueFd make_loop_device(const std::string& path, std::string& name) {
    UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    UniqueFd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
    for (int attempt = 0; control && attempt < 10; ++attempt) {
        int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        name = fmt::format("/dev/loop{}", number);
        UniqueFd device(open(name.c_str(), O_RDWR | O_CLOEXEC));
        loop_config config{.fd = static_cast<__u32>(file.get()), .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
        if (device && ioctl(device.get(), LOOP_CONFIGURE, &config) == 0)
            return device;
    }
    return {};
}

void devices() {
    Fixture f;
    std::string path = f.make_file("disk.img", 8 * kMiB), name;
    UniqueFd device = make_loop_device(path, name);
    if (!device) {
        g_test_skip("cannot make a loop device");
        return;
    }
    assert_contains(f.add_error(f.as_node("n", name)), "but it is a block device");
    for (const char* cache : {"", ", 'cache': {'direct': true}"}) {
        auto backend =
            f.attach(f.add(f.as_node("disk", name, fmt::format(", 'discard': 'unmap'{}", cache), "host_device")),
                     {BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All});
        g_assert_cmpint(backend->length(), ==, 8 * kMiB);
        g_assert_false(backend->may_have_holes());
        std::string out(kMiB, 'd'), in(kMiB, '?');
        g_assert_cmpint(backend->pwrite(kMiB, kMiB, out.data()), ==, 0);
        g_assert_cmpint(backend->pwrite_zeroes(kMiB + 100, 10000), ==, 0);  // not in whole sectors
        g_assert_cmpint(backend->pwrite_zeroes(kMiB + 65536, 65536, RequestFlags::MayUnmap), ==, 0);
        g_assert_cmpint(backend->pread(kMiB, kMiB, in.data()), ==, 0);
        out.replace(100, 10000, 10000, '\0');
        out.replace(65536, 65536, 65536, '\0');
        g_assert_true(in == out);
        g_assert_cmpint(backend->pdiscard(kMiB, kMiB), ==, 0);
        g_assert_cmpint(backend->flush(), ==, 0);
        g_assert_cmpint(backend->truncate(16 * kMiB, true, PreallocMode::Off).error().code, ==, EINVAL);
        g_assert_cmpint(backend->truncate(kMiB, true, PreallocMode::Off).error().code, ==, ENOTSUP);
        g_assert_true(backend->truncate(kMiB, false, PreallocMode::Off).has_value());
        g_assert_cmpint(backend->length(), ==, 8 * kMiB);
        f.detach(backend);
        f.del("disk");
    }
}

}  // namespace

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN);
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/file-driver/reads-and-writes-through-the-graph", reads_and_writes_through_the_graph);
    g_test_add_func("/file-driver/pages-are-those-of-the-file", pages_are_those_of_the_file);
    g_test_add_func("/file-driver/many-small-reads-are-given-a-map", many_small_reads_are_given_a_map);
    g_test_add_func("/file-driver/pages-are-not-read-where-requests-are-to-wait",
                    pages_are_not_read_where_requests_are_to_wait);
    g_test_add_func("/file-driver/direct-takes-any-request", direct_takes_any_request);
    g_test_add_func("/file-driver/what-is-no-file-is-refused", what_is_no_file_is_refused);
    g_test_add_func("/file-driver/options-are-checked", options_are_checked);
    g_test_add_func("/file-driver/auto-read-only-falls-back", auto_read_only_falls_back);
    g_test_add_func("/file-driver/writes-extend-the-file", writes_extend_the_file);
    g_test_add_func("/file-driver/file-cut-off-reads-as-zeroes", file_cut_off_reads_as_zeroes);
    g_test_add_func("/file-driver/lock-follows-the-permissions", lock_follows_the_permissions);
    g_test_add_func("/file-driver/reopen-changes-access", reopen_changes_access);
    g_test_add_func("/file-driver/names-choose-the-driver", names_choose_the_driver);
    g_test_add_func("/file-driver/devices", devices);
    return g_test_run();
}

#include "util/page_pipe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>

#include "tests/unit/runtime_test.h"
#include "tests/unit/temp_dir.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

constexpr size_t kFileSize = 3 << 20;
constexpr std::string_view kHead = "head";

struct File {
    TempDir dir;
    UniqueFd fd;
    std::string data = std::string(kFileSize, 0);

    File() {
        for (size_t i = 0; i < data.size(); i++)
            data[i] = static_cast<char>(i * 2654435761u >> 13);
        fd.reset(open(dir.file("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        g_assert_cmpint(write(fd.get(), data.data(), data.size()), ==, static_cast<ssize_t>(data.size()));
    }
    void fill(PagePipe& pages, int64_t offset, int64_t bytes) {
        const size_t before = pages.size();
        pages.set_head(std::as_bytes(std::span(kHead)));
        g_assert_true(pages.add_file(fd.get(), offset, bytes));
        g_assert_cmpuint(pages.size(), ==, before + kHead.size() + static_cast<size_t>(bytes));
    }
};

std::ptrdiff_t open_descriptors() {
    std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
}

void set_small_buffer(Socket& socket) {
    int bytes = 4096;
    g_assert_cmpint(setsockopt(socket.fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), ==, 0);
}

Task<void> receive_slowly(Socket& socket, std::string expected) {
    std::string got(expected.size(), 0);
    auto rest = std::as_writable_bytes(std::span(got));
    while (!rest.empty()) {
        int n = co_await socket.recv(rest.first(std::min<size_t>(rest.size(), 30'000)));
        g_assert_cmpint(n, >, 0);
        rest = rest.subspan(static_cast<size_t>(n));
        co_await co_yield_now();
    }
    g_assert_true(got == expected);
}

Task<void> send_between(File& file) {
    SocketPair pair;
    set_small_buffer(pair.a);
    TaskScope scope;
    constexpr std::pair<int64_t, int64_t> kRanges[] = {
        {0, 1}, {4095, 2}, {0, 4096}, {8192, 512 << 10}, {12345, 1'300'001}, {1, kFileSize - 1}};
    std::string expected = "before";
    for (auto [offset, bytes] : kRanges)
        expected += std::string(kHead) + file.data.substr(static_cast<size_t>(offset), static_cast<size_t>(bytes));
    scope.spawn(receive_slowly(pair.b, expected + "after"));
    // One that waits to receive meanwhile goes on waiting.
    scope.spawn(receive_slowly(pair.a, "answer"));
    co_await co_yield_now();
    g_assert_cmpint(co_await send_text(pair.a, "before"), ==, 0);
    PagePipe pages;
    for (auto [offset, bytes] : kRanges) {
        file.fill(pages, offset, bytes);
        g_assert_cmpint(co_await pair.a.send_pages(pages), ==, 0);
        g_assert_cmpuint(pages.size(), ==, 0);
        pages.reset();
    }
    g_assert_cmpint(co_await send_text(pair.a, "after"), ==, 0);
    g_assert_cmpint(co_await send_text(pair.b, "answer"), ==, 0);
    co_await scope.join();
}

void pages_arrive_behind_their_head_and_in_order() {
    File file;
    auto context = make_context();
    sync_wait(*context, send_between(file));
}

Task<void> send_to_nobody(File& file) {
    SocketPair pair;
    PagePipe pages;
    file.fill(pages, 0, 1 << 20);
    pair.b = Socket();
    g_assert_cmpint(co_await pair.a.send_pages(pages), ==, -EPIPE);
}

void sending_to_a_closed_peer_gives_EPIPE() {
    File file;
    auto context = make_context();
    sync_wait(*context, send_to_nobody(file));
}

Task<void> send_pages_until(Socket& socket, PagePipe& pages, int expected) {
    g_assert_cmpint(co_await socket.send_pages(pages), ==, expected);
}

Task<void> cancel_in_the_middle(File& file) {
    SocketPair pair;
    set_small_buffer(pair.a);
    PagePipe pages;
    file.fill(pages, 0, 1 << 20);
    TaskScope scope;
    scope.spawn(send_pages_until(pair.a, pages, -ECANCELED));
    co_await co_yield_now();
    g_assert_cmpuint(pages.size(), >, 0);
    pair.a.cancel();
    co_await scope.join();
    g_assert_cmpint(co_await pair.a.send_pages(pages), ==, -ECANCELED);
}

void cancelling_ends_a_send_that_waits() {
    File file;
    auto context = make_context();
    sync_wait(*context, cancel_in_the_middle(file));
}

void what_the_file_does_not_have_is_refused() {
    File file;
    PagePipe pages;
    for (int64_t offset : {int64_t{kFileSize}, int64_t{kFileSize} - 100}) {
        pages.set_head(std::as_bytes(std::span(kHead)));
        g_assert_false(pages.add_file(file.fd.get(), offset, 101));
        pages.reset();
        g_assert_cmpuint(pages.size(), ==, 0);
    }
    g_assert_false(pages.add_file(-1, 0, 1));
    pages.reset();
    file.fill(pages, 0, 4096);
}

// A map of the file, which is cut to `left` bytes before it is used.
struct Map {
    File& file;
    std::byte* data;

    explicit Map(File& f, size_t left = kFileSize) : file(f) {
        void* map = mmap(nullptr, kFileSize, PROT_READ, MAP_SHARED, file.fd.get(), 0);
        g_assert_true(map != MAP_FAILED);
        data = static_cast<std::byte*>(map);
        g_assert_cmpint(ftruncate(file.fd.get(), static_cast<off_t>(left)), ==, 0);
        std::fill(file.data.begin() + static_cast<std::ptrdiff_t>(left), file.data.end(), '\0');
    }
    ~Map() { munmap(data, kFileSize); }
    std::string add(PagePipe& pages, std::string_view head, int64_t offset, int64_t bytes) {
        pages.set_head(std::as_bytes(std::span(head)));
        g_assert_true(pages.add_mapped(data + offset, file.fd.get(), offset, bytes));
        return std::string(head) + file.data.substr(static_cast<size_t>(offset), static_cast<size_t>(bytes));
    }
};

Task<void> send_mapped(Map& map) {
    SocketPair pair;
    set_small_buffer(pair.a);
    PagePipe pages;
    std::string expected;
    for (int i = 0; i < 1000; i++) {
        const int64_t bytes = i % 7 == 0 ? PagePipe::kMaxMapped : 1 + i * 37 % 9000;
        const auto offset = static_cast<int64_t>(i * 2654435761u % (kFileSize - PagePipe::kMaxMapped));
        expected += map.add(pages, fmt::format("head {} ", i), offset, bytes);
        if (i % 100 == 5) {
            map.file.fill(pages, offset / 2, 600'000);
            expected += std::string(kHead) + map.file.data.substr(static_cast<size_t>(offset / 2), 600'000);
        }
        if (i % 20 != 19)
            continue;
        g_assert_cmpuint(pages.size(), ==, expected.size());
        TaskScope scope;
        scope.spawn(receive_slowly(pair.b, std::exchange(expected, {})));
        g_assert_cmpint(co_await pair.a.send_pages(pages), ==, 0);
        pages.reset();
        co_await scope.join();
    }
}

void what_is_mapped_arrives_among_the_others() {
    File file;
    Map map(file);
    auto context = make_context();
    PagePipe::Keeper keeper;
    sync_wait(*context, send_mapped(map));
}

Task<void> send_cut_off(Map& map) {
    SocketPair pair;
    PagePipe pages;
    std::string expected;
    for (int64_t offset : {0, 8192, 10'000, 12'288, 5000, 10'001, 0})
        expected += map.add(pages, kHead, offset, 5000);
    TaskScope scope;
    scope.spawn(receive_slowly(pair.b, expected));
    g_assert_cmpint(co_await pair.a.send_pages(pages), ==, 0);
    co_await scope.join();
}

void what_a_mapped_file_has_lost_is_zero() {
    File file;
    Map map(file, 11'000);
    auto context = make_context();
    sync_wait(*context, send_cut_off(map));
}

void what_can_no_longer_be_read_breaks_the_stream() {
    File file;
    Map map(file, 0);
    PagePipe pages;
    g_assert_false(pages.add_mapped(map.data, file.fd.get(), 0, 4096));  // nothing has been added yet
    g_assert_cmpuint(pages.size(), ==, 0);
    UniqueFd unreadable(open(file.dir.file("file").c_str(), O_WRONLY | O_CLOEXEC));
    pages.set_head(std::as_bytes(std::span(kHead)));
    g_assert_true(pages.add_mapped(map.data, unreadable.get(), 0, 4096));
    g_assert_cmpint(pages.move_to(-1), ==, -EBADF);
    pages.reset();
    g_assert_cmpuint(pages.size(), ==, 0);
}

void a_refusal_takes_nothing_from_what_was_added() {
    File file;
    Map map(file);
    PagePipe pages;
    std::string expected = map.add(pages, kHead, 0, 4096);
    pages.set_head(std::as_bytes(std::span(kHead)));
    g_assert_false(pages.add_file(file.fd.get(), kFileSize - 1'000'000, 1'000'001));
    g_assert_cmpuint(pages.size(), ==, expected.size());
    std::deque<PagePipe> others;
    while (others.emplace_back().add_file(file.fd.get(), 0, 1)) {
    }
    size_t more = 0;
    while (pages.add_mapped(map.data, file.fd.get(), 0, 4096))
        more++;
    g_assert_cmpuint(more, >, 10);  // into the pipe that was there
    g_assert_cmpuint(pages.size(), ==, expected.size() + more * 4096);
}

void there_are_only_so_many_pipes_and_they_are_used_again() {
    File file;
    std::ptrdiff_t least = open_descriptors(), most = 0;
    std::optional<PagePipe::Keeper> keeper(std::in_place);
    for (int round = 0; round < 20; round++) {
        std::deque<PagePipe> many;
        for (;;) {
            PagePipe& pages = many.emplace_back();
            if (!pages.add_file(file.fd.get(), 0, 100'000))
                break;
            g_assert_cmpuint(many.size(), <, 1000);
        }
        // A refusal takes nothing from the others.
        for (size_t i = 0; i + 1 < many.size(); i++)
            g_assert_cmpuint(many[i].size(), ==, 100'000);
        g_assert_cmpuint(many.size(), >, 1);
        if (round == 0)
            most = open_descriptors();
        g_assert_cmpint(open_descriptors(), <=, most);
    }
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    UniqueFd to(fds[0]), from(fds[1]);
    PagePipe pages;
    auto send = [&] {
        g_assert_true(pages.add_file(file.fd.get(), 0, 4096));
        g_assert_cmpint(pages.move_to(to.get()), ==, 4096);
        pages.reset();
        char data[4096];
        g_assert_cmpint(read(from.get(), data, sizeof data), ==, sizeof data);
    };
    send();
    g_assert_cmpint(open_descriptors(), ==, least + 4);  // two of the pair, and of the pipe that is kept
    keeper.reset();
    g_assert_cmpint(open_descriptors(), ==, least + 2);
    send();
    g_assert_cmpint(open_descriptors(), ==, least + 2);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    signal(SIGPIPE, SIG_IGN);
    add("/page-pipe/pages-arrive-behind-their-head-and-in-order", pages_arrive_behind_their_head_and_in_order);
    add("/page-pipe/sending-to-a-closed-peer-gives-EPIPE", sending_to_a_closed_peer_gives_EPIPE);
    add("/page-pipe/cancelling-ends-a-send-that-waits", cancelling_ends_a_send_that_waits);
    g_test_add_func("/page-pipe/what-the-file-does-not-have-is-refused", what_the_file_does_not_have_is_refused);
    add("/page-pipe/what-is-mapped-arrives-among-the-others", what_is_mapped_arrives_among_the_others);
    add("/page-pipe/what-a-mapped-file-has-lost-is-zero", what_a_mapped_file_has_lost_is_zero);
    g_test_add_func("/page-pipe/what-can-no-longer-be-read-breaks-the-stream",
                    what_can_no_longer_be_read_breaks_the_stream);
    g_test_add_func("/page-pipe/a-refusal-takes-nothing-from-what-was-added",
                    a_refusal_takes_nothing_from_what_was_added);
    g_test_add_func("/page-pipe/there-are-only-so-many-pipes", there_are_only_so_many_pipes_and_they_are_used_again);
    return g_test_run();
}

#include "util/page_pipe.h"

#include <fcntl.h>
#include <signal.h>

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
        pages.set_head(std::as_bytes(std::span(kHead)));
        g_assert_true(pages.add_file(fd.get(), offset, bytes));
        g_assert_cmpuint(pages.size(), ==, kHead.size() + static_cast<size_t>(bytes));
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
    g_test_add_func("/page-pipe/there-are-only-so-many-pipes", there_are_only_so_many_pipes_and_they_are_used_again);
    return g_test_run();
}

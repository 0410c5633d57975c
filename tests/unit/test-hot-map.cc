#include "block/file/hot_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <glib.h>

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/temp_dir.h"
#include "util/unique_fd.h"

using namespace ashlar;

namespace {

constexpr int64_t kSize = 2 * HotMap::kWindow + 10'000;
constexpr int64_t kEnough = 3 * HotMap::kHot;

struct File {
    TempDir dir = TempDir::on_disk();
    UniqueFd fd{open(dir.file("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    std::string data = std::string(kSize, 0);

    File() {
        for (size_t i = 0; i < data.size(); i++)
            data[i] = static_cast<char>(i * 2654435761u >> 13);
        g_assert_cmpint(write(fd.get(), data.data(), data.size()), ==, static_cast<ssize_t>(data.size()));
    }
    bool is_at(const std::byte* found, int64_t offset, int64_t bytes) const {
        return found && data.compare(static_cast<size_t>(offset), static_cast<size_t>(bytes),
                                     reinterpret_cast<const char*>(found), static_cast<size_t>(bytes)) == 0;
    }
};

// Without it nothing is ever found.
bool kernel_tells_of_pages() {
    constexpr long kCachestat = 451;
    return syscall(kCachestat, -1, nullptr, nullptr, 0) == 0 || errno == EBADF;
}

bool is_ever_found(HotMap& map, int64_t offset, int64_t bytes) {
    bool found = false;
    for (int64_t i = 0; i < kEnough; i++)
        found |= map.find(offset, bytes) != nullptr;
    return found;
}

void what_is_read_often_is_found() {
    if (!kernel_tells_of_pages())
        return g_test_skip("the kernel does not tell what is in the page cache");
    File file;
    HotMap map(file.fd.get(), kSize);
    for (int64_t i = 1; i < HotMap::kHot; i++)
        g_assert_null(map.find(i * 10'000, 4096));
    g_assert_true(file.is_at(map.find(12'345, 4096), 12'345, 4096));
    g_assert_true(file.is_at(map.find(0, HotMap::kWindow), 0, HotMap::kWindow));
    g_assert_null(map.find(HotMap::kWindow, 4096));  // the next window has not been read yet
    g_assert_true(is_ever_found(map, kSize - 512, 512));
    g_assert_true(file.is_at(map.find(kSize - 10'000, 10'000), kSize - 10'000, 10'000));
}

void what_lies_in_no_window_is_not_found() {
    File file;
    HotMap map(file.fd.get(), kSize);
    for (auto [offset, bytes] : {std::pair<int64_t, int64_t>{HotMap::kWindow - 1, 2},
                                 {0, HotMap::kWindow + 1},
                                 {kSize - 511, 512},
                                 {kSize, 1},
                                 {INT64_MAX - 4096, 4096}})
        g_assert_false(is_ever_found(map, offset, bytes));
}

void what_cannot_be_mapped_is_not_found() {
    File file;
    HotMap empty(file.fd.get(), 0), unknown(-1, kSize);
    g_assert_false(is_ever_found(empty, 0, 1));
    g_assert_false(is_ever_found(unknown, 0, 1));
}

void what_is_not_in_the_page_cache_is_not_found() {
    File file;
    g_assert_cmpint(ftruncate(file.fd.get(), 0), ==, 0);
    g_assert_cmpint(ftruncate(file.fd.get(), kSize), ==, 0);  // a hole
    HotMap map(file.fd.get(), kSize);
    g_assert_false(is_ever_found(map, 0, 4096));
    g_assert_false(is_ever_found(map, HotMap::kWindow, 4096));
}

void what_the_file_has_lost_is_not_found() {
    File file;
    HotMap map(file.fd.get(), kSize);
    g_assert_cmpint(ftruncate(file.fd.get(), HotMap::kWindow + 4096), ==, 0);
    g_assert_false(is_ever_found(map, HotMap::kWindow, 4096));
    g_assert_cmpint(is_ever_found(map, 0, 4096), ==, kernel_tells_of_pages());
}

void several_threads_find() {
    if (!kernel_tells_of_pages())
        return g_test_skip("the kernel does not tell what is in the page cache");
    File file;
    HotMap map(file.fd.get(), kSize);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&] {
            int64_t found = 0;
            for (int64_t i = 0; i < 20'000; i++) {
                const int64_t offset = i * 4099 % (2 * HotMap::kWindow - 512) / 512 * 512;
                if (const std::byte* at = map.find(offset, 512)) {
                    g_assert_true(file.is_at(at, offset, 512));
                    found++;
                }
            }
            g_assert_cmpint(found, >, 0);
        });
    for (std::thread& thread : threads)
        thread.join();
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/hot-map/what-is-read-often-is-found", what_is_read_often_is_found);
    g_test_add_func("/hot-map/what-lies-in-no-window-is-not-found", what_lies_in_no_window_is_not_found);
    g_test_add_func("/hot-map/what-cannot-be-mapped-is-not-found", what_cannot_be_mapped_is_not_found);
    g_test_add_func("/hot-map/what-is-not-in-the-page-cache-is-not-found", what_is_not_in_the_page_cache_is_not_found);
    g_test_add_func("/hot-map/what-the-file-has-lost-is-not-found", what_the_file_has_lost_is_not_found);
    g_test_add_func("/hot-map/several-threads-find", several_threads_find);
    return g_test_run();
}

#include "block/image_copy.h"

#include "block/image_create.h"
#include "tests/unit/image_fixture.h"
#include "tests/unit/temp_dir.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <numeric>

using namespace ashlar;

namespace {

constexpr int64_t kPiece = 64 << 10;

using Bytes = std::vector<std::byte>;

struct Fixture : ImageFixture {
    TempDir dir;
    unsigned names = 0;

    // A disk in memory whose requests take their time.
    BlockBackend& disk(int64_t size, std::string_view more = "") {
        return open(
            fmt::format("{{'driver':'mock','node-name':'m{}','size':{},'align':512,'zeroes':true,'yields':4{}}}",
                        names++, size, more));
    }
    BlockBackend& image(const char* name, Json options) {
        check(run(co_create_image(*graph, *check(registry.get("qcow2")), dir.file(name), std::move(options))));
        return open(fmt::format("{{'driver':'qcow2','node-name':'q{}','file':{{'driver':'file','filename':'{}'}}}}",
                                names++, dir.file(name)));
    }

    Bytes contents(BlockBackend& image) {
        Bytes all(static_cast<size_t>(image.length()));
        g_assert_cmpint(image.pread(0, image.length(), all.data()), ==, 0);
        return all;
    }
    void fill(BlockBackend& image, std::byte with) {
        const Bytes all(static_cast<size_t>(image.length()), with);
        g_assert_cmpint(image.pwrite(0, image.length(), all.data()), ==, 0);
    }
    // Runs of sectors, every second one of them zeroes.
    void scatter(BlockBackend& image) {
        const int64_t sectors = image.length() / 512;
        for (int64_t at = 0; at < sectors;) {
            const int64_t run = std::min<int64_t>(1 + random() % (random() % 4 ? 9 : 200), sectors - at);
            Bytes data(static_cast<size_t>(run * 512));
            for (std::byte& byte : data)
                byte = static_cast<std::byte>(random() >> 8);
            g_assert_cmpint(image.pwrite(at * 512, run * 512, data.data()), ==, 0);
            at += 2 * run;
        }
    }

    Result<void> copy(std::vector<BlockBackend*> from, BlockBackend& to, ImageCopyOptions options) {
        options.piece = kPiece;
        Progress progress;
        ImageCopy copying(std::move(from), to, std::move(options), progress);
        auto done = run(copying.co_run());
        if (done)
            g_assert_cmpfloat(progress.fraction(), ==, 1);
        return done;
    }
};

MockDriver& mock(BlockBackend& image) {
    return MockDriver::of(*image.root());
}

// With all ways of sharing out the work.
template <class Fn>
void each_way(Fn fn) {
    for (unsigned threads : {0, 1, 2})
        for (unsigned coroutines : {1, 3, 8})
            for (bool out_of_order : {false, true})
                fn({.coroutines = coroutines, .threads = threads, .out_of_order = out_of_order});
}

void test_contents() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        BlockBackend &from = f.disk(1 << 20), &to = f.disk(1 << 20);
        f.scatter(from);
        for (int64_t min_zeroes : {0, 512, 4096, 128 << 10}) {
            options.min_zeroes = min_zeroes;
            f.fill(to, std::byte{0xee});
            f.check(f.copy({&from}, to, options));
            g_assert_true(f.contents(from) == f.contents(to));
        }
    });
}

void test_several_sources() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        std::vector<BlockBackend*> sources;
        Bytes expected;
        for (int64_t size : {100'352, 512, 70'000, 200'192}) {
            BlockBackend& source = f.disk(size);
            f.scatter(source);
            Bytes all = f.contents(source);
            all.resize((all.size() + 511) / 512 * 512);
            expected.insert(expected.end(), all.begin(), all.end());
            sources.push_back(&source);
        }
        g_assert_cmpint(ImageCopy::total_length(sources), ==, static_cast<int64_t>(expected.size()));
        BlockBackend& to = f.disk(static_cast<int64_t>(expected.size()) + 1024);
        f.fill(to, std::byte{0xee});
        f.check(f.copy(sources, to, options));
        expected.resize(expected.size() + 1024, std::byte{0xee});  // what lies behind is left alone
        g_assert_true(f.contents(to) == expected);
    });
}

void test_no_zeroes_over_zeroes() {
    Fixture f;
    BlockBackend &from = f.disk(1 << 20), &to = f.disk(1 << 20);
    f.scatter(from);
    f.check(f.copy({&from}, to, {.target_zero_from = 0}));
    g_assert_cmpuint(mock(to).zeroes, ==, 0);
    g_assert_true(f.contents(from) == f.contents(to));
    const unsigned before = mock(to).writes;
    BlockBackend& nothing = f.disk(1 << 20);
    f.check(f.copy({&nothing}, to, {.target_zero_from = 512 << 10}));
    g_assert_cmpuint(mock(to).writes, ==, before);
    Bytes expected = f.contents(from);
    std::fill_n(expected.begin(), 512 << 10, std::byte{0});
    g_assert_true(f.contents(to) == expected);
}

// In the image's own file clusters lie as they do on its disk, however long each piece took to be read.
void test_order() {
    for (unsigned threads : {0, 1, 2}) {
        Fixture f;
        BlockBackend& from = f.disk(4 << 20);
        f.fill(from, std::byte{0x11});
        BlockBackend& to = f.image("to", {{"size", 4 << 20}});
        f.check(f.copy({&from}, to, {.coroutines = 8, .threads = threads, .target_zero_from = 0}));
        int64_t last = 0;
        for (int64_t at = 0; at < to.length(); at += 64 << 10) {
            const BlockStatus status = f.run(to.root()->co_block_status(true, at, 64 << 10));
            g_assert_true(status.has(BlockStatus::OffsetValid));
            g_assert_cmpint(status.offset, >, last);
            last = status.offset;
        }
        g_assert_true(f.contents(from) == f.contents(to));
    }
}

void test_files() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        constexpr int64_t kSize = 4 << 20;
        const auto file = [&](const char* name) -> BlockBackend& {
            std::ofstream(f.dir.file(name)).close();
            g_assert_cmpint(truncate(f.dir.file(name).c_str(), kSize), ==, 0);
            return f.open(
                fmt::format("{{'driver':'raw','node-name':'{0}','file':{{'driver':'file','filename':'{1}'}}}}", name,
                            f.dir.file(name)));
        };
        BlockBackend &from = file("from"), &to = file("to");
        f.scatter(from);
        const Bytes data(1 << 20, std::byte{0x5a});  // in one write
        g_assert_cmpint(from.pwrite(2 << 20, 1 << 20, data.data()), ==, 0);
        options.target_zero_from = 0;
        Progress progress;
        ImageCopy copying({&from}, to, std::move(options), progress);
        f.check(f.run(copying.co_run()));
        g_assert_true(f.contents(from) == f.contents(to));
    });
}

void test_holes_stay_holes() {
    Fixture f;
    TempDir disk = TempDir::on_disk();
    const auto file = [&](const char* name) -> BlockBackend& {
        std::ofstream(disk.file(name)).close();
        g_assert_cmpint(truncate(disk.file(name).c_str(), 16 << 20), ==, 0);
        return f.open(fmt::format("{{'driver':'file','node-name':'{0}','filename':'{1}'}}", name, disk.file(name)));
    };
    BlockBackend &from = file("from"), &to = file("to");
    const Bytes data(1 << 20, std::byte{0x5a}), zeroes(1 << 20);
    for (int64_t at : {1, 5, 6})
        g_assert_cmpint(from.pwrite(at << 20, 1 << 20, data.data()), ==, 0);
    g_assert_cmpint(from.pwrite(9 << 20, 1 << 20, zeroes.data()), ==, 0);  // data that turn out to be zeroes
    Progress progress;
    ImageCopy copying({&from}, to, {.target_zero_from = 0}, progress);
    f.check(f.run(copying.co_run()));
    g_assert_true(f.contents(from) == f.contents(to));
    struct stat st;
    g_assert_cmpint(stat(disk.file("to").c_str(), &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 4 << 20);
}

void test_own_layers() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        BlockBackend& base = f.disk(1 << 20);
        f.scatter(base);
        f.check(f.run(
            co_create_image(*f.graph, *f.check(f.registry.get("qcow2")), f.dir.file("top"), {{"size", 1 << 20}})));
        BlockBackend& top = f.open(fmt::format(
            "{{'driver':'qcow2','node-name':'top','file':{{'driver':'file','filename':'{}'}},'backing':'m0'}}",
            f.dir.file("top")));
        const Bytes data(64 << 10, std::byte{0x77});
        g_assert_cmpint(top.pwrite(192 << 10, 64 << 10, data.data()), ==, 0);
        g_assert_cmpint(top.pwrite_zeroes(512 << 10, 64 << 10), ==, 0);
        BlockBackend& to = f.disk(1 << 20);
        f.fill(to, std::byte{0xee});
        options.own_layers = 1;
        f.check(f.copy({&top}, to, options));
        Bytes expected(1 << 20, std::byte{0xee});
        std::fill_n(expected.begin() + (192 << 10), 64 << 10, std::byte{0x77});
        std::fill_n(expected.begin() + (512 << 10), 64 << 10, std::byte{0});
        g_assert_true(f.contents(to) == expected);
    });
}

void test_compressed() {
    for (const char* type : {"zlib", "zstd"}) {
        each_way([type](ImageCopyOptions options) {
            Fixture f;
            BlockBackend& from = f.disk((1 << 20) - 5120);
            for (int64_t at = 0; at < 8; ++at) {  // some get smaller, some do not
                const Bytes same(50'176, static_cast<std::byte>(at + 1));
                g_assert_cmpint(from.pwrite(at * 100'352, 50'176, same.data()), ==, 0);
            }
            BlockBackend& noise = f.disk(128 << 10);
            f.scatter(noise);
            const Bytes random = f.contents(noise);
            g_assert_cmpint(from.pwrite(640 << 10, 128 << 10, random.data()), ==, 0);
            BlockBackend& to = f.image("to", {{"size", (1 << 20) - 5120}, {"compression_type", type}});
            options.compressed = true;
            options.target_zero_from = 0;
            f.check(f.copy({&from}, to, options));
            g_assert_true(f.contents(from) == f.contents(to));
            // And back: the source's clusters are what is compressed.
            BlockBackend& back = f.disk((1 << 20) - 5120);
            f.fill(back, std::byte{0xee});
            options.compressed = false;
            options.target_zero_from = INT64_MAX;
            f.check(f.copy({&to}, back, options));
            g_assert_true(f.contents(from) == f.contents(back));
        });
    }
}

constexpr int64_t kBadSector = 300;

BlockBackend& broken_disk(Fixture& f) {
    BlockBackend& whole = f.disk(1 << 20);
    f.fill(whole, std::byte{0x42});
    return f.open(
        fmt::format("{{'driver':'raw','node-name':'broken','file':{{'driver':'blkdebug','image':'m0','inject-error':["
                    "{{'event':'none','iotype':'read','sector':{},'errno':5}}]}}}}",
                    kBadSector),
        BlockFixture::kReadOnly);
}

void test_read_error() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        BlockBackend &from = broken_disk(f), &to = f.disk(1 << 20);
        auto done = f.copy({&from}, to, options);
        g_assert_false(done.has_value());
        assert_text(done.error().message, fmt::format("error while reading at byte {}: Input/output error",
                                                      kBadSector * 512 / kPiece * kPiece));
    });
}

void test_salvage() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        BlockBackend &from = broken_disk(f), &to = f.disk(1 << 20);
        std::vector<std::pair<int64_t, int>> told;
        options.salvage = true;
        options.unreadable = [&](int64_t offset, int error) { told.emplace_back(offset, error); };
        f.check(f.copy({&from}, to, options));
        g_assert_cmpuint(told.size(), ==, 1);
        g_assert_cmpint(told[0].first, ==, kBadSector * 512);
        g_assert_cmpint(told[0].second, ==, EIO);
        Bytes expected(1 << 20, std::byte{0x42});
        std::fill_n(expected.begin() + kBadSector * 512, 512, std::byte{0});
        g_assert_true(f.contents(to) == expected);
    });
}

void test_write_error() {
    each_way([](ImageCopyOptions options) {
        Fixture f;
        BlockBackend &from = f.disk(1 << 20), &to = f.disk(1 << 20);
        f.fill(from, std::byte{0x42});
        mock(to).fail_with = -ENOSPC;
        options.coroutines = 1;  // so that the first one is the one that is told of
        auto done = f.copy({&from}, to, options);
        g_assert_false(done.has_value());
        assert_text(done.error().message, "error while writing at byte 0: No space left on device");
        g_assert_cmpuint(mock(to).writes, ==, 1);
    });
}

void test_cancel() {
    each_way([](ImageCopyOptions options) {
        for (int after : {0, 3}) {
            Fixture f;
            BlockBackend &from = f.disk(4 << 20), &to = f.disk(4 << 20);
            f.scatter(from);
            Progress progress;
            ImageCopy copying({&from}, to, options, progress);
            std::atomic<int> looks = 0;
            mock(from).status_hook = [&](BlockStatus&, int64_t) {
                if (looks++ == after)
                    copying.cancel();
            };
            auto done = f.run(copying.co_run());
            g_assert_false(done.has_value());
            g_assert_cmpint(done.error().code, ==, ECANCELED);
            g_assert_cmpfloat(progress.fraction(), <, 1);
        }
    });
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/image-copy/the-target-is-as-the-source", test_contents);
    g_test_add_func("/image-copy/several-sources-lie-one-behind-the-other", test_several_sources);
    g_test_add_func("/image-copy/zeroes-are-not-written-where-there-are-zeroes", test_no_zeroes_over_zeroes);
    g_test_add_func("/image-copy/an-image-allocates-in-order", test_order);
    g_test_add_func("/image-copy/files-are-copied-by-whom-ever", test_files);
    g_test_add_func("/image-copy/holes-stay-holes", test_holes_stay_holes);
    g_test_add_func("/image-copy/only-the-own-layers-are-copied", test_own_layers);
    g_test_add_func("/image-copy/compressed-there-and-back", test_compressed);
    g_test_add_func("/image-copy/what-cannot-be-read-is-named", test_read_error);
    g_test_add_func("/image-copy/what-cannot-be-read-is-zeroes-when-salvaging", test_salvage);
    g_test_add_func("/image-copy/what-cannot-be-written-ends-it", test_write_error);
    g_test_add_func("/image-copy/once-cancelled-it-begins-nothing-more", test_cancel);
    return g_test_run();
}

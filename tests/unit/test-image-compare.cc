#include "block/image_compare.h"

#include "tests/unit/image_fixture.h"

#include <fmt/format.h>

#include <algorithm>

using namespace ashlar;

namespace {

constexpr int64_t kSize = 1 << 20, kPiece = 16 << 10;

using Bytes = std::vector<std::byte>;
using Found = Result<std::optional<ImageDifference>>;

struct Fixture : ImageFixture {
    int64_t equal_up_to = 0;

    // A disk in memory whose requests take their time, by `name`.
    BlockBackend& disk(std::string_view name, const Bytes& contents) {
        BlockBackend& image =
            open(fmt::format("{{'driver':'mock','node-name':'{}','size':{},'align':512,'zeroes':true,'yields':4}}",
                             name, contents.size()));
        g_assert_cmpint(image.pwrite(0, static_cast<int64_t>(contents.size()), contents.data()), ==, 0);
        return image;
    }
    // Above a disk: reads of these sectors fail.
    BlockBackend& broken(std::string_view name, std::string_view below, std::initializer_list<int64_t> sectors) {
        std::string rules;
        for (int64_t sector : sectors)
            rules += fmt::format("{}{{'event':'none','iotype':'read','sector':{},'errno':5}}", rules.empty() ? "" : ",",
                                 sector);
        return open(fmt::format("{{'driver':'raw','node-name':'{}','file':{{'driver':'blkdebug','image':'{}',"
                                "'inject-error':[{}]}}}}",
                                name, below, rules),
                    kReadOnly);
    }
    Bytes noise(int64_t size) {
        Bytes all(static_cast<size_t>(size));
        for (std::byte& byte : all)
            byte = static_cast<std::byte>(1 + random() % 255);
        return all;
    }

    Found compare(BlockBackend& a, BlockBackend& b, ImageCompareOptions options) {
        options.piece = kPiece;
        Progress progress;
        ImageCompare comparing({&a, &b}, {"first", "second"}, options, progress);
        auto found = run(comparing.co_run());
        equal_up_to = comparing.equal_up_to();
        if (found && !*found)
            g_assert_cmpfloat(progress.fraction(), ==, 1);
        return found;
    }
    void assert_equal(BlockBackend& a, BlockBackend& b, ImageCompareOptions options) {
        const auto found = check(compare(a, b, options));
        g_assert_false(found.has_value());
        g_assert_cmpint(equal_up_to, ==, std::max(a.length(), b.length()));
    }
    void assert_differs(BlockBackend& a, BlockBackend& b, ImageCompareOptions options, int64_t offset,
                        ImageDifference::Kind kind = ImageDifference::Kind::Contents) {
        const auto found = check(compare(a, b, options));
        g_assert_true(found.has_value());
        g_assert_true(found->kind == kind);
        g_assert_cmpint(found->offset, ==, offset);
        g_assert_cmpint(equal_up_to, <=, offset);
    }
};

// With all ways of sharing out the work.
template <class Fn>
void each_way(Fn fn) {
    for (unsigned threads : {0, 1, 2})
        for (unsigned coroutines : {1, 3, 8})
            fn({.coroutines = coroutines, .threads = threads});
}

void test_equal() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes contents = f.noise(kSize - 512);
        f.assert_equal(f.disk("a", contents), f.disk("b", contents), options);
    });
}

// However many are being looked at, and whatever is found first.
void test_first_difference() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes contents = f.noise(kSize);
        BlockBackend &a = f.disk("a", contents), &b = f.disk("b", contents);
        for (int round = 0; round < 8; ++round) {
            std::vector<int64_t> sectors(1 + f.random() % 40);
            // Some are near each other, so that they are in the works at the same time.
            const auto within = static_cast<int64_t>(round % 2 ? kSize / 512 : 8 * kPiece / 512);
            for (int64_t& sector : sectors)
                sector = static_cast<int64_t>(f.random()) % within;
            Bytes changed = contents;
            for (int64_t sector : sectors)
                changed[static_cast<size_t>(sector * 512 + static_cast<int64_t>(f.random() % 512))] ^= std::byte{0x80};
            g_assert_cmpint(b.pwrite(0, kSize, changed.data()), ==, 0);
            f.assert_differs(a, b, options, *std::ranges::min_element(sectors) * 512);
            f.assert_differs(b, a, options, *std::ranges::min_element(sectors) * 512);
        }
    });
}

void test_longer() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes contents = f.noise(kSize - 1024);
        Bytes longer = contents;
        longer.resize(2 * kSize);
        BlockBackend &a = f.disk("a", contents), &b = f.disk("b", longer);
        f.assert_equal(a, b, options);
        f.assert_equal(b, a, options);
        const std::byte one{1};
        g_assert_cmpint(b.pwrite(kSize + 5000, 1, &one), ==, 0);
        f.assert_differs(a, b, options, (kSize + 5000) / 512 * 512);
        f.assert_differs(b, a, options, (kSize + 5000) / 512 * 512);
        g_assert_cmpint(f.equal_up_to, >=, a.length());
    });
}

void say_data(BlockStatus& status, int64_t) {
    status.flags = BlockStatus::Data;
}

// What is said to be zeroes is not read, and the other one must be.
void test_zeroes() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes nothing(static_cast<size_t>(kSize));
        BlockBackend &a = f.disk("a", nothing), &b = f.disk("b", nothing);
        MockDriver::of(*b.root()).status_hook = say_data;
        const unsigned before = MockDriver::of(*a.root()).reads;
        f.assert_equal(a, b, options);
        f.assert_equal(b, a, options);
        const std::byte one{1};
        g_assert_cmpint(b.pwrite(700'001, 1, &one), ==, 0);
        f.assert_differs(a, b, options, 700'001 / 512 * 512);
        f.assert_differs(b, a, options, 700'001 / 512 * 512);
        g_assert_cmpuint(MockDriver::of(*a.root()).reads, ==, before);
    });
}

void test_strict() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes nothing(static_cast<size_t>(kSize));
        BlockBackend &a = f.disk("a", nothing), &b = f.disk("b", nothing);
        constexpr int64_t kFrom = 300 << 10;
        MockDriver::of(*a.root()).status_hook = [](BlockStatus& status, int64_t offset) {
            if (offset < kFrom) {
                say_data(status, offset);
                status.bytes = std::min(status.bytes, kFrom - offset);
            }
        };
        MockDriver::of(*b.root()).status_hook = say_data;
        f.assert_equal(a, b, options);
        options.strict = true;
        f.assert_differs(a, b, options, kFrom, ImageDifference::Kind::Status);
        const std::byte one{1};  // before it
        g_assert_cmpint(b.pwrite(kFrom - 1, 1, &one), ==, 0);
        f.assert_differs(a, b, options, kFrom - 512);
    });
}

void test_read_error() {
    each_way([](ImageCompareOptions options) {
        Fixture f;
        const Bytes contents = f.noise(kSize);
        BlockBackend& a = f.disk("a", contents);
        f.disk("b", contents);
        BlockBackend& bad = f.broken("bad", "b", {300, 310, 1000});
        const auto names_it = [&](const Found& found, const char* name) {
            g_assert_false(found.has_value());
            assert_text(found.error().message, fmt::format("Error while reading offset {} of {}: Input/output error",
                                                           300 * 512 / kPiece * kPiece, name));
        };
        names_it(f.compare(a, bad, options), "second");
        names_it(f.compare(bad, a, options), "first");
        // What is behind a difference does not matter.
        const std::byte one = contents[100 * 512] ^ std::byte{1};
        g_assert_cmpint(a.pwrite(100 * 512, 1, &one), ==, 0);
        f.assert_differs(a, bad, options, 100 * 512);
    });
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/image-compare/the-same-contents-are-equal", test_equal);
    g_test_add_func("/image-compare/the-first-difference-is-told", test_first_difference);
    g_test_add_func("/image-compare/a-longer-image-must-end-in-zeroes", test_longer);
    g_test_add_func("/image-compare/what-is-zeroes-is-not-read", test_zeroes);
    g_test_add_func("/image-compare/strictly-the-block-status-must-be-the-same", test_strict);
    g_test_add_func("/image-compare/what-cannot-be-read-is-named", test_read_error);
    return g_test_run();
}

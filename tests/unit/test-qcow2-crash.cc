// A crash at any point of random work: below the qcow2 driver every write, resize and flush is recorded; then images
// are made of everything up to a flush and any part of what came after it. Each opens, a check finds nothing but leaks,
// and what was flushed is there, in the disk and in its snapshots. (An image that says that it is dirty is opened for
// writing first, which repairs it.)
#include "tests/unit/crash_work.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

constexpr int kSteps = 40;
constexpr size_t kSamples = 40, kQemuLooksAt = 8, kRepairedIs = 4;  // every so manieth

// A version 2 image cannot say that its counts are being changed: those of a snapshot that is not there yet, or any
// more, may be too high for the flags. What is written then still does not touch a snapshot.
bool only_flags_are_wrong(const std::vector<std::string>& lines) {
    return std::ranges::all_of(lines, [](const std::string& line) {
        return line.starts_with("Leaked cluster") || line.starts_with("ERROR OFLAG_COPIED");
    });
}

void crashes_lose_nothing_that_was_flushed(gconstpointer data) {
    const CrashKind& kind = *static_cast<const CrashKind*>(data);
    CrashWork work(kind);
    for (int i = 0; i < kSteps; i++)
        work.step();
    work.close();
    TempDir dir;
    CrashedImage image{dir, kind.data_file};
    size_t seen = 0;
    for_crashes(work, kSamples, [&](const std::vector<Bytes>& files, const CrashFlushed& flushed) {
        image.put(files);
        if (says_dirty(files[0])) {
            BlockFixture fixture;
            OpenImage repaired(fixture, image.file(), true, image.more());
        }
        std::vector<std::string> lines;
        ImageCheck check = image.check(CheckFix::None, &lines);
        const bool sound = check.corruptions + check.errors == 0;
        if (!sound && !(is_version_2(files[0]) && only_flags_are_wrong(lines))) {
            for (const std::string& line : lines)
                g_test_message("%s", line.c_str());
            g_error("the image is damaged");
        }
        if (sound && ++seen % kQemuLooksAt == 0 && have_qemu_img()) {
            int status = run_program({"qemu-img", "check", "-q", "--image-opts", image.qemu_options()});
            if (status != 0 && status != 3 << 8)  // 3: leaks
                g_error("qemu-img check: exit status %d", status >> 8);
        }
        image.check_contents(flushed, kind.bitmap);
        if (!sound || seen % kRepairedIs == 0) {  // which leaves nothing to be found, and loses nothing
            ImageCheck repaired = image.check(CheckFix::All);
            g_assert_cmpint(repaired.corruptions + repaired.errors + repaired.leaks, ==, 0);
            image.check_contents(flushed, kind.bitmap);
            image.put(files);
        }
        if (!sound) {
            image.write_over();
            image.check_snapshots(flushed);
        } else if (kind.resizes && !kind.bitmap) {  // one that was in use must not be resized
            image.check_growth();
        }
    });
    g_assert_cmpuint(seen, >, kSamples / 4);
    // It was closed, and is to be whole and of use.
    CrashReplay replay(work.initial, work.file.log);
    image.put(replay.complete());
    ImageCheck check = image.check(CheckFix::None);
    g_assert_cmpint(check.corruptions + check.errors + check.leaks, ==, 0);
    BlockFixture fixture;
    OpenImage opened(fixture, image.file(), false, image.more());
    assert_same(opened.read_all(), work.contents);
    if (kind.bitmap)
        g_assert_true(CrashedImage::check_bitmap(*opened.backend->root(), work.contents));
}

const std::vector<const char*> kWidths = {"{'refcount_bits': 8}", "{'refcount_bits': 32}", "{'refcount_bits': 64}",
                                          "{'lazy_refcounts': true}", "{'lazy_refcounts': false}"};
const std::vector<const char*> kVersions = {"{'compat': '0.10'}", "{'compat': '1.1'}"};

const CrashKind kKinds[] = {
    // The refcount table grows, and L2 tables are evicted.
    {"cluster-512-tiny-caches", .cluster_bits = 9, .snapshots = true, .more = kTinyCaches},
    {"cluster-4k", .snapshots = true},
    {"lazy-refcounts", .snapshots = true, .resizes = true, .more = ", 'lazy-refcounts': true"},
    {"refcount-1", .refcount_bits = 1, .resizes = true, .more = kTinyCaches},
    {"refcount-64-cluster-512", .cluster_bits = 9, .refcount_bits = 64, .snapshots = true, .resizes = true},
    {"subclusters-16k", .cluster_bits = 14, .extended_l2 = true, .snapshots = true},
    {"subclusters-16k-resized", .cluster_bits = 14, .extended_l2 = true, .resizes = true},
    {"resized", .resizes = true},
    {"resized-cluster-512-with-snapshots", .cluster_bits = 9, .snapshots = true, .resizes = true, .more = kTinyCaches},
    {"version-2", .version = Version::V2, .resizes = true},
    {"version-2-with-snapshots", .version = Version::V2, .snapshots = true},
    {"version-2-cluster-512-with-snapshots", .cluster_bits = 9, .version = Version::V2, .snapshots = true,
     .more = kTinyCaches},
    {"amended", .snapshots = true, .amends = kWidths},
    {"amended-cluster-512", .cluster_bits = 9, .resizes = true, .amends = kWidths},
    {"up-and-down", .resizes = true, .amends = kVersions},
    {"up-and-down-cluster-512-with-snapshots", .cluster_bits = 9, .snapshots = true, .amends = kVersions},
    {"data-file", .data_file = true, .resizes = true},
    {"data-file-cluster-512", .cluster_bits = 9, .data_file = true, .more = kTinyCaches},
    {"data-file-subclusters", .cluster_bits = 14, .extended_l2 = true, .data_file = true, .resizes = true},
    {"data-file-raw", .data_file = true, .data_file_raw = true, .resizes = true},
    {"bitmap-cluster-512", .cluster_bits = 9, .bitmap = true},
    {"bitmap", .bitmap = true, .resizes = true},
    {"bitmap-and-snapshots", .bitmap = true, .snapshots = true},
    {"bitmap-and-snapshots-cluster-512", .cluster_bits = 9, .bitmap = true, .snapshots = true, .resizes = true},
};

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const CrashKind& kind : kKinds)
        g_test_add_data_func(fmt::format("/qcow2-crash/loses-nothing-that-was-flushed/{}", kind.name).c_str(), &kind,
                             crashes_lose_nothing_that_was_flushed);
    return g_test_run();
}

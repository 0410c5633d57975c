// Checking and repairing: damaged images are judged as qemu-img judges them, and it finds nothing wrong with what has
// been repaired.
#include <algorithm>
#include <filesystem>

#include "block/open_backend.h"
#include "block/qcow2/format.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/byte_order.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

// The bytes of an image, to be damaged.
struct Raw {
    Bytes bytes;

    uint64_t get(uint64_t at) const { return load_be<uint64_t>(bytes.data() + at); }
    void set(uint64_t at, uint64_t value) { store_be<uint64_t>(bytes.data() + at, value); }
    void set_count(uint64_t cluster, uint16_t count) {
        store_be<uint16_t>(bytes.data() + block() + cluster * 2, count);
    }

    uint64_t l1() const { return get(40); }
    uint64_t reftable() const { return get(48); }
    uint64_t block() const { return get(reftable()); }
    uint64_t l2() const { return get(l1()) & kOffsetMask; }
    uint64_t cluster(unsigned index) const { return (get(l2() + index * 8) & kOffsetMask) >> 16; }
};

struct Damage {
    const char* name;
    void (*apply)(Raw& raw);
    bool repairable = true;
    bool keeps_data = true;
};

const Damage kDamages[] = {
    {"nothing", [](Raw&) {}},
    {"leaked-clusters",
     [](Raw& raw) {
         raw.set_count(raw.cluster(3), 5);
         raw.set(raw.l2() + 8 * 2, 0);
     },
     true, false},
    {"count-too-low", [](Raw& raw) { raw.set_count(raw.cluster(3), 1); }},
    {"count-zero", [](Raw& raw) { raw.set_count(raw.cluster(3), 0); }},
    {"copied-flag-of-data", [](Raw& raw) { raw.set(raw.l2(), raw.get(raw.l2()) ^ kCopied); }},
    {"copied-flag-of-a-table", [](Raw& raw) { raw.set(raw.l1(), raw.get(raw.l1()) ^ kCopied); }},
    {"copied-flag-of-shared-data", [](Raw& raw) { raw.set(raw.l2() + 24, raw.get(raw.l2() + 24) ^ kCopied); }},
    {"data-not-aligned", [](Raw& raw) { raw.set(raw.l2(), raw.get(raw.l2()) + 512); }, false},
    {"preallocated-not-aligned", [](Raw& raw) { raw.set(raw.l2(), raw.get(raw.l2()) + 513); }, true, false},
    {"data-beyond-the-end", [](Raw& raw) { raw.set(raw.l2(), kCopied | 0x10000000); }, false},
    {"reserved-bits-of-an-l2-entry", [](Raw& raw) { raw.set(raw.l2(), raw.get(raw.l2()) | uint64_t{1} << 57); }, false},
    {"reserved-bits-of-an-l1-entry", [](Raw& raw) { raw.set(raw.l1(), raw.get(raw.l1()) | uint64_t{1} << 57); }, false},
    {"refcount-block-beyond-the-end", [](Raw& raw) { raw.set(raw.reftable(), 0x10000000); }},
    {"refcount-block-missing", [](Raw& raw) { raw.set(raw.reftable(), 0); }},
    {"refcount-block-twice", [](Raw& raw) { raw.set(raw.reftable() + 8, raw.block()); }},
};

std::string joined(std::vector<std::string> lines) {
    std::string all;
    for (const std::string& line : lines)
        all += line + "\n";
    return all;
}

// As qemu-img prints it, without the file's name.
Json as_json(const ImageCheck& check) {
    Json json{{"check-errors", check.errors}, {"format", "qcow2"}, {"image-end-offset", *check.image_end_offset}};
    auto add = [&](const char* key, int64_t value) {
        if (value != 0)
            json[key] = value;
    };
    add("corruptions", check.corruptions);
    add("leaks", check.leaks);
    add("corruptions-fixed", check.corruptions_fixed);
    add("leaks-fixed", check.leaks_fixed);
    add("total-clusters", check.clusters->total);
    add("allocated-clusters", check.clusters->allocated);
    add("fragmented-clusters", check.clusters->fragmented);
    add("compressed-clusters", check.clusters->compressed);
    return json;
}

Json qemu_check(const std::string& file, std::string& lines) {
    Output output = run_program_output({"qemu-img", "check", "-f", "qcow2", "--output=json", file});
    lines = output.err;
    Json json = BlockFixture::check(parse_json_object(output.out));
    json.erase("filename");
    return json;
}

struct ForCheck {
    BlockFixture fixture;
    std::unique_ptr<BlockBackend> backend;

    ForCheck(const std::string& file, bool writable) {
        Json options{{"driver", "qcow2"}, {"file", Json{{"driver", "file"}, {"filename", file}}}};
        ChildPerm perms =
            writable ? ChildPerm{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All}
                     : BlockFixture::kReadOnly;
        NodeFlags flags;
        flags.check = true;
        flags.read_only = !writable;
        backend = BlockFixture::check(
            fixture.run(co_open_backend(*fixture.graph, std::move(options), Typing::Strict, flags, perms)));
    }
    ~ForCheck() { BlockFixture::check(fixture.run(backend->co_detach())); }

    ImageCheck check(CheckFix fix, std::vector<std::string>& lines) {
        auto drained = fixture.run(fixture.graph->co_drain(*backend->root()));
        return BlockFixture::check(fixture.run(backend->root()->driver().image_format()->co_check(
            fix, [&](const std::string& line) { lines.push_back(line); })));
    }
};

void damaged_images_are_judged_as_by_qemu_img(gconstpointer data) {
    if (!have_qemu_img())
        return g_test_skip("qemu-img is not installed");
    const Damage& damage = *static_cast<const Damage*>(data);
    TempDir dir;
    std::string file = dir.file("image.qcow2"), whole = dir.file("whole.qcow2");
    for (std::vector<std::string> words : std::vector<std::vector<std::string>>{
             {"qemu-img", "create", "-q", "-f", "qcow2", file, "10M"},
             {"qemu-io", "-c", "write -P 1 0 1M", "-c", "write -P 2 5M 64k", file},
             {"qemu-io", "-c", "write -c -P 3 6M 64k", "-c", "write -c -P 4 7M 64k", file},
             {"qemu-img", "snapshot", "-c", "one", file},
             {"qemu-io", "-c", "write -P 5 0 128k", file},
             {"cp", file, whole}})
        g_assert_cmpint(run_program(words), ==, 0);
    g_autofree char* contents = nullptr;
    gsize size = 0;
    g_assert_true(g_file_get_contents(file.c_str(), &contents, &size, nullptr));
    auto* begin = reinterpret_cast<std::byte*>(contents);
    Raw raw{{begin, begin + size}};
    damage.apply(raw);
    write_file(file, raw.bytes);

    std::string expected_lines;
    Json expected = qemu_check(file, expected_lines);
    {
        std::vector<std::string> lines;
        ForCheck image(file, false);
        Json got = as_json(image.check(CheckFix::None, lines));
        assert_text(joined(lines), expected_lines);
        assert_text(canonical(got), canonical(expected));
    }
    {
        ForCheck image(file, true);
        std::vector<std::string> lines, again;
        ImageCheck repaired = image.check(CheckFix::All, lines);
        g_test_message("%s", joined(lines).c_str());
        g_assert_cmpint(repaired.corruptions == 0, ==, damage.repairable);
        if (expected.contains("corruptions") && damage.repairable)
            g_assert_cmpint(repaired.corruptions_fixed, >, 0);
        // It can go on at once.
        ImageCheck after = image.check(CheckFix::None, again);
        g_test_message("%s", joined(again).c_str());
        g_assert_cmpint(after.corruptions == 0 && after.leaks == 0, ==, damage.repairable);
        if (damage.repairable) {
            Bytes data_to_write(100'000, std::byte{7});
            g_assert_cmpint(image.backend->pwrite(8 << 20, 100'000, data_to_write.data()), ==, 0);
        }
    }
    if (!damage.repairable)
        return;
    g_assert_cmpint(run_program({"qemu-img", "check", file}), ==, 0);
    g_assert_cmpint(run_program({"qemu-io", "-c", "write -P 7 8M 100000", whole}), ==, 0);
    if (damage.keeps_data)
        g_assert_cmpint(run_program({"qemu-img", "compare", "-q", file, whole}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "snapshot", "-a", "one", file}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "snapshot", "-a", "one", whole}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "compare", "-q", file, whole}), ==, 0);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Damage& damage : kDamages)
        g_test_add_data_func(fmt::format("/qcow2-check/judged-as-by-qemu-img/{}", damage.name).c_str(), &damage,
                             damaged_images_are_judged_as_by_qemu_img);
    return g_test_run();
}

// Changing what an image is: afterwards it is what qemu-img makes of it, holds what it did, and nothing is wrong with
// it.
#include <algorithm>
#include <filesystem>

#include "block/image_format.h"
#include "block/open_backend.h"
#include "tests/unit/qcow2_fixture.h"
#include "util/progress.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

struct Source {
    const char* name;
    const char* options;
    std::vector<const char*> commands;  // qemu-io's; or "snapshot"
};

const Source kSources[] = {
    {"plain", "compat=1.1", {"write -P 1 0 1M", "write -P 2 10M 128k", "snapshot", "write -P 3 0 64k"}},
    {"zeroes", "compat=1.1", {"write -P 1 0 1M", "write -z 512k 256k", "write -z -u 20M 1M", "write -P 4 600k 1k"}},
    {"zeroes-snapshot",
     "compat=1.1",
     {"write -P 1 0 1M", "write -z 512k 256k", "write -z -u 20M 1M", "snapshot", "write -P 4 600k 1k"}},
    {"backing", "backing_file=BASE,backing_fmt=raw", {"write -P 1 0 1M", "write -z 4M 300k", "write -z -u 1M 64k"}},
    {"backing-snapshot",
     "backing_file=BASE,backing_fmt=raw",
     {"write -P 1 0 1M", "write -z 4M 300k", "snapshot", "write -P 5 4M 64k", "snapshot", "write -P 6 0 100k"}},
    {"v2", "compat=0.10", {"write -P 1 0 1M", "snapshot", "write -P 2 512k 1M"}},
    {"lazy", "lazy_refcounts=on", {"write -P 1 0 1M"}},
    {"bits-8", "refcount_bits=8", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"small-clusters", "cluster_size=512", {"write -P 1 0 1M", "write -z 100k 50k", "snapshot", "write -P 2 3M 1M"}},
    {"compressed", "compat=1.1", {"write -c -P 1 0 64k", "write -c -P 2 64k 64k"}},
    {"subclusters", "extended_l2=on", {"write -P 1 0 1M"}},
    {"data-file", "data_file=DATA", {"write -P 1 0 1M"}},
};

struct Case {
    const char* source;
    const char* options;
    bool works = true;
};

const Case kCases[] = {
    {"plain", "compat=0.10"},
    {"zeroes", "compat=0.10"},
    {"zeroes-snapshot", "compat=0.10"},
    {"backing", "compat=0.10"},
    {"backing-snapshot", "compat=0.10"},
    {"small-clusters", "compat=0.10"},
    {"compressed", "compat=0.10"},
    {"lazy", "compat=0.10"},
    {"bits-8", "compat=0.10", false},
    {"bits-8", "compat=0.10,refcount_bits=16"},
    {"subclusters", "compat=0.10", false},
    {"data-file", "compat=0.10", false},
    {"v2", "compat=1.1"},
    {"v2", "compat=1.1,lazy_refcounts=on,refcount_bits=8"},
    {"v2", "lazy_refcounts=on", false},
    {"v2", "refcount_bits=8", false},
    {"plain", "lazy_refcounts=on"},
    {"lazy", "lazy_refcounts=off"},
    {"plain", "refcount_bits=1", false},
    {"plain", "refcount_bits=2"},
    {"plain", "refcount_bits=64"},
    {"compressed", "refcount_bits=4"},
    {"small-clusters", "refcount_bits=64"},
    {"small-clusters", "refcount_bits=2"},
    {"plain", "refcount_bits=3", false},
    {"plain", "refcount_bits=128", false},
    {"plain", "backing_file=b.qcow2", false},
    {"plain", "backing_fmt=raw", false},
    {"data-file", "data_file_raw=on", false},
    {"data-file", "data_file_raw=off"},
    {"plain", "data_file=foo", false},
    {"plain", "data_file_raw=on", false},
    {"plain", "size=128M"},
    {"plain", "size=100", false},
    {"plain", "cluster_size=4k", false},
    {"plain", "extended_l2=on", false},
    {"plain", "compression_type=zstd", false},
    {"plain", "compat=1.1,refcount_bits=32,lazy_refcounts=on,size=70M"},
};

Json parse_options(const std::string& text) {
    Json options = Json::object();
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find(',', at), text.size()), equals = text.find('=', at);
        options[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
        at = end + 1;
    }
    return options;
}

void make(const Source& from, const TempDir& dir, const std::string& file) {
    std::string options = from.options;
    for (auto [word, name] : {std::pair{"BASE", "base.raw"}, std::pair{"DATA", "data.raw"}})
        if (size_t at = options.find(word); at != std::string::npos)
            options.replace(at, 4, dir.file(name));
    Bytes base(8 << 20, std::byte{9});
    write_file(dir.file("base.raw"), base);
    g_assert_cmpint(run_program({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, file, "64M"}), ==, 0);
    unsigned snapshots = 0;
    for (std::string command : from.commands)
        g_assert_cmpint(command == "snapshot"
                            ? run_program({"qemu-img", "snapshot", "-c", fmt::format("s{}", ++snapshots), file})
                            : run_program({"qemu-io", "-f", "qcow2", "-c", command, file}),
                        ==, 0);
}

std::string amend(const std::string& file, const std::string& options) {
    BlockFixture fixture;
    Json node{{"driver", "qcow2"}, {"file", Json{{"driver", "file"}, {"filename", file}}}};
    ChildPerm perms{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All};
    auto backend =
        BlockFixture::check(fixture.run(co_open_backend(*fixture.graph, std::move(node), Typing::Strict, {}, perms)));
    Progress progress;
    Result<void> done;
    {
        auto drained = fixture.run(fixture.graph->co_drain(*backend->root()));
        done = fixture.run(backend->root()->driver().image_format()->co_amend(parse_options(options), false, progress));
    }
    if (done) {  // it goes on being used
        Bytes data(100'000, std::byte{0x33});
        g_assert_cmpint(backend->pwrite(30 << 20, 100'000, data.data()), ==, 0);
        g_assert_cmpint(backend->flush(), ==, 0);
    }
    BlockFixture::check(fixture.run(backend->co_detach()));
    return done ? "" : done.error().message + "\n" + done.error().hint;
}

Json info(const std::string& file) {
    Json json =
        BlockFixture::check(parse_json_object(run_program_output({"qemu-img", "info", "--output=json", file}).out));
    return Json{{"size", json["virtual-size"]}, {"specific", json["format-specific"]}, {"dirty", json["dirty-flag"]}};
}

void is_what_qemu_img_makes_of_it(gconstpointer data) {
    if (!have_qemu_img())
        return g_test_skip("qemu-img is not installed");
    const Case& one = *static_cast<const Case*>(data);
    TempDir dir;
    std::string file = dir.file("image.qcow2"), theirs = dir.file("theirs.qcow2");
    const Source& source = *std::ranges::find(kSources, std::string_view(one.source), &Source::name);
    make(source, dir, file);
    std::filesystem::copy_file(file, theirs);
    Output output = run_program_output({"qemu-img", "amend", "-f", "qcow2", "-o", one.options, theirs});
    std::string error = amend(file, one.options);
    if (!one.works) {
        std::string expected = output.err.substr(output.err.find(": ") + 2);
        assert_text(error + (error.ends_with('\n') ? "" : "\n"), expected);
        g_assert_cmpint(run_program({"cmp", file, theirs}), ==, 0);
        return;
    }
    assert_text(error, "");
    g_assert_cmpint(run_program({"qemu-io", "-f", "qcow2", "-c", "write -P 0x33 30M 100000", theirs}), ==, 0);
    assert_text(dump_json(info(file)), dump_json(info(theirs)));
    g_assert_cmpint(run_program({"qemu-img", "check", "-q", file}), ==, 0);
    g_assert_cmpint(run_program({"qemu-img", "compare", "-q", file, theirs}), ==, 0);
    auto snapshots = std::ranges::count(source.commands, std::string_view("snapshot"));
    for (long i = 1; i <= snapshots; i++) {
        for (const std::string& image : {file, theirs})
            g_assert_cmpint(run_program({"qemu-img", "snapshot", "-a", fmt::format("s{}", i), image}), ==, 0);
        g_assert_cmpint(run_program({"qemu-img", "compare", "-q", file, theirs}), ==, 0);
    }
    g_assert_cmpint(run_program({"qemu-img", "check", "-q", file}), ==, 0);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Case& one : kCases)
        g_test_add_data_func(
            fmt::format("/qcow2-amend/is-what-qemu-img-makes-of-it/{}/{}", one.source, one.options).c_str(), &one,
            is_what_qemu_img_makes_of_it);
    return g_test_run();
}

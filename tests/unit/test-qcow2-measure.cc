// How large an image would be: as qemu-img says.
#include <algorithm>

#include "block/image_create.h"
#include "block/open_backend.h"
#include "block/qcow2.h"
#include "tests/unit/qcow2_fixture.h"

using namespace ashlar;
using namespace ashlar::test;

namespace {

struct Case {
    const char* size;                      // or null: of a source
    const char* options;                   // as for -o
    std::vector<const char*> source = {};  // its format, its options, and what qemu-io does with it
};

const Case kCases[] = {
    {"0", ""},
    {"512", ""},
    {"1M", ""},
    {"1G", ""},
    {"1T", ""},
    {"2P", ""},
    {"2049T", ""},
    {"1G", "cluster_size=512"},
    {"64G", "cluster_size=512"},
    {"2T", "cluster_size=512"},
    {"1G", "cluster_size=2M"},
    {"1G", "cluster_size=1000"},
    {"1G", "refcount_bits=1"},
    {"1G", "refcount_bits=64"},
    {"1G", "refcount_bits=3"},
    {"1G", "extended_l2=on"},
    {"10G", "extended_l2=on,cluster_size=16k"},
    {"1G", "extended_l2=on,cluster_size=4k"},
    {"1G", "preallocation=metadata"},
    {"1G", "preallocation=falloc"},
    {"1G", "preallocation=full"},
    {"1G", "compat=0.10"},
    {"10G", "refcount_bits=64,cluster_size=512"},
    {"100G", "refcount_bits=64,cluster_size=4k"},
    {"1G", "data_file=foo"},
    {nullptr, "", {"raw", "", "write 0 1M"}},
    {nullptr, "cluster_size=512", {"raw", "", "write 1k 3k", "write 100k 1M"}},
    {nullptr, "cluster_size=2M", {"raw", "", "write 8M 4k", "write 11M 4M"}},
    {nullptr, "", {"qcow2", "", "write 0 1M", "write -z 3M 1M", "write 10M 128k"}},
    {nullptr, "preallocation=falloc", {"qcow2", "", "write 0 1M"}},
    {nullptr, "cluster_size=4k", {"qcow2", "extended_l2=on", "write 0 2k", "write 100k 2k", "write -z 1M 64k"}},
    {nullptr, "", {"qcow2", "compat=0.10", "write 0 1M"}},
    {nullptr, "", {"qcow2", "", "write -c 0 64k", "write -c 1M 64k"}},
    {nullptr, "backing_file=other,backing_fmt=raw", {"qcow2", "", "write 0 64k"}},
};

struct Answer {
    std::string error;  // or, if it is empty:
    uint64_t required = 0, fully_allocated = 0;
    std::optional<uint64_t> bitmaps;
};

Answer ask_qemu(const Case& one, const std::string& source) {
    std::vector<std::string> words{"qemu-img", "measure", "-O", "qcow2", "--output=json"};
    if (*one.options)
        words.insert(words.end(), {"-o", one.options});
    if (one.size)
        words.insert(words.end(), {"--size", one.size});
    else
        words.insert(words.end(), {"-f", one.source[0], source});
    Output output = run_program_output(words);
    if (output.out.empty()) {
        std::string message = output.err.substr(output.err.find(": ") + 2);
        return {.error = message.substr(0, message.find('\n'))};
    }
    Json json = BlockFixture::check(parse_json_object(output.out));
    Answer answer{.required = json["required"].get<uint64_t>(),
                  .fully_allocated = json["fully-allocated"].get<uint64_t>()};
    if (json.contains("bitmaps"))
        answer.bitmaps = json["bitmaps"].get<uint64_t>();
    return answer;
}

Answer ask_us(const Case& one, const std::string& source) {
    BlockFixture fixture;
    Json options = Json::object();
    std::string text = one.options;
    for (size_t at = 0; at < text.size();) {
        size_t end = std::min(text.find(',', at), text.size()), equals = text.find('=', at);
        options[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
        at = end + 1;
    }
    std::unique_ptr<BlockBackend> backend;
    if (one.size) {
        options["size"] = one.size;
    } else {
        Json node{{"driver", one.source[0]}, {"file", Json{{"driver", "file"}, {"filename", source}}}};
        backend = BlockFixture::check(fixture.run(co_open_backend(*fixture.graph, std::move(node), Typing::Strict,
                                                                  {.read_only = true}, BlockFixture::kReadOnly)));
    }
    auto size = fixture.run(co_measure_image(*fixture.graph, backend.get(), kQcow2Driver, std::move(options)));
    if (backend)
        BlockFixture::check(fixture.run(backend->co_detach()));
    if (!size)
        return {.error = size.error().message};
    return {.required = size->required, .fully_allocated = size->fully_allocated, .bitmaps = size->bitmaps};
}

void is_what_qemu_img_says(gconstpointer data) {
    if (!have_qemu_img())
        return g_test_skip("qemu-img is not installed");
    const Case& one = *static_cast<const Case*>(data);
    TempDir dir;
    std::string source = dir.file("source");
    if (!one.size) {
        std::vector<std::string> words{"qemu-img", "create", "-q", "-f", one.source[0]};
        if (*one.source[1])
            words.insert(words.end(), {"-o", one.source[1]});
        words.insert(words.end(), {source, "64M"});
        g_assert_cmpint(run_program(words), ==, 0);
        for (size_t i = 2; i < one.source.size(); i++)
            g_assert_cmpint(run_program({"qemu-io", "-f", one.source[0], "-c", one.source[i], source}), ==, 0);
    }
    Answer theirs = ask_qemu(one, source), ours = ask_us(one, source);
    assert_text(ours.error, theirs.error);
    g_assert_cmpuint(ours.required, ==, theirs.required);
    g_assert_cmpuint(ours.fully_allocated, ==, theirs.fully_allocated);
    g_assert_true(ours.bitmaps == theirs.bitmaps);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    unsigned number = 0;
    for (const Case& one : kCases)
        g_test_add_data_func(fmt::format("/qcow2-measure/is-what-qemu-img-says/{}", ++number).c_str(), &one,
                             is_what_qemu_img_says);
    return g_test_run();
}

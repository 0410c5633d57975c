// What the tests of the qcow2 driver share: images made from a plan, opened in a graph; and qemu-img as the oracle.
#pragma once

#include <fcntl.h>
#include <glib.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "block/qcow2/create.h"
#include "tests/unit/block_fixture.h"
#include "tests/unit/temp_dir.h"

namespace ashlar::test {

using Bytes = std::vector<std::byte>;

inline void write_plan(const qcow2::ImagePlan& plan, const std::string& file) {
    int fd = open(file.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, static_cast<off_t>(plan.file_length)), ==, 0);
    for (const qcow2::ImagePart& part : plan.parts)
        g_assert_cmpint(pwrite(fd, part.data.data(), part.data.size(), static_cast<off_t>(part.offset)), ==,
                        static_cast<ssize_t>(part.data.size()));
    close(fd);
}

inline void make_image(const qcow2::CreateOptions& options, const std::string& file) {
    auto plan = qcow2::plan_image(options);
    g_assert_true(plan.has_value());
    write_plan(*plan, file);
}

inline void write_file(const std::string& file, const Bytes& bytes) {
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline bool have_qemu_img() {
    g_autofree char* found = g_find_program_in_path("qemu-img");
    return found != nullptr;
}

// The exit status of a program; its output is shown if it is not 0.
inline int run_program(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const std::string& word : words)
        argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    g_autofree char *out = nullptr, *err = nullptr;
    int status = -1;
    g_assert_true(g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &out, &err,
                               &status, nullptr));
    if (status != 0)
        g_test_message("%s %s: %s%s", argv[0], argv[1], out, err);
    return status;
}

// A qcow2 file as a node with a BlockBackend on it.
struct OpenImage {
    BlockFixture& fixture;
    std::unique_ptr<BlockBackend> backend;
    bool may_fail = false;  // closing it

    OpenImage(BlockFixture& f, const std::string& file, bool writable, const std::string& more = "") : fixture(f) {
        auto& node = fixture.add(fmt::format(
            "{{'driver': 'qcow2', 'node-name': 'q', 'read-only': {}, 'discard': 'unmap', 'file': {{'driver': 'file', "
            "'filename': '{}'}}{}}}",
            !writable, file, more));
        ChildPerm perms =
            writable ? ChildPerm{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All}
                     : BlockFixture::kReadOnly;
        backend = fixture.attach(node, perms);
    }
    ~OpenImage() {
        auto detached = fixture.run(backend->co_detach());
        backend.reset();
        auto deleted = fixture.run(fixture.graph->co_blockdev_del("q"));
        if (!may_fail) {
            BlockFixture::check(std::move(detached));
            BlockFixture::check(std::move(deleted));
        }
    }

    Bytes read(int64_t offset, size_t bytes) {
        Bytes data(bytes, std::byte{0xa5});
        g_assert_cmpint(backend->pread(offset, static_cast<int64_t>(bytes), data.data()), ==, 0);
        return data;
    }
    Bytes read_all() { return read(0, static_cast<size_t>(backend->length())); }
};

inline void assert_same(const Bytes& a, const Bytes& b) {
    g_assert_cmpuint(a.size(), ==, b.size());
    for (size_t i = 0; i < a.size(); i++)
        if (a[i] != b[i])
            g_error("byte %zu is %02x instead of %02x", i, std::to_integer<unsigned>(a[i]),
                    std::to_integer<unsigned>(b[i]));
}

}  // namespace ashlar::test

// What the tests of the qcow2 driver share: images made from a plan, opened in a graph; and qemu-img as the oracle.
#pragma once

#include <fcntl.h>
#include <glib.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "block/image_format.h"
#include "block/open_backend.h"
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

struct Output {
    std::string out, err;
};

inline Output run_program_output(std::vector<std::string> words) {
    std::vector<char*> argv;
    for (std::string& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    g_autofree char *out = nullptr, *err = nullptr;
    g_assert_true(g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &out, &err,
                               nullptr, nullptr));
    return {out, err};
}

// In an order that does not depend on who made it.
inline std::string canonical(const Json& json) {
    if (!json.is_object())
        return json.dump();
    std::map<std::string, std::string> members;
    for (const auto& [key, value] : json.items())
        members[key] = canonical(value);
    std::string text = "{";
    for (const auto& [key, value] : members)
        text += key + "=" + value + " ";
    return text + "}";
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

    // What the format offers, with no request in the node.
    template <class T>
    T run_drained(Task<T> (*operation)(ImageFormat& format, const std::string& word), const std::string& word) {
        auto drained = fixture.run(fixture.graph->co_drain(*backend->root()));
        return fixture.run(operation(*backend->root()->driver().image_format(), word));
    }
    void create_snapshot(const std::string& id) { BlockFixture::check(try_create_snapshot(id)); }
    Result<void> try_create_snapshot(const std::string& id) {
        return run_drained<Result<void>>(
            [](ImageFormat& format, const std::string& word) {
                return format.co_create_snapshot({.id = word, .name = "name-" + word, .date_seconds = 1'000'000'000});
            },
            id);
    }
    Result<void> try_apply_snapshot(const std::string& id) {
        auto applied = run_drained<Result<void>>(
            [](ImageFormat& format, const std::string& word) { return format.co_apply_snapshot(word); }, id);
        (void)backend->flush();  // lets it notice the new length
        return applied;
    }
    void delete_snapshot(const std::string& id) {
        BlockFixture::check(run_drained<Result<void>>(
            [](ImageFormat& format, const std::string& word) { return format.co_delete_snapshot(word); }, id));
    }
    void show_snapshot(const std::string& id) {
        BlockFixture::check(run_drained<Result<void>>(
            [](ImageFormat& format, const std::string& word) { return format.co_show_snapshot(word); }, id));
        (void)backend->flush();  // lets it notice the new length
    }
    Result<ImageCheck> check(CheckFix fix, std::vector<std::string>* lines = nullptr) {
        auto drained = fixture.run(fixture.graph->co_drain(*backend->root()));
        return fixture.run(backend->root()->driver().image_format()->co_check(fix, [lines](const std::string& line) {
            if (lines)
                lines->push_back(line);
        }));
    }

    Bytes read(int64_t offset, size_t bytes) {
        Bytes data(bytes, std::byte{0xa5});
        g_assert_cmpint(backend->pread(offset, static_cast<int64_t>(bytes), data.data()), ==, 0);
        return data;
    }
    Bytes read_all() { return read(0, static_cast<size_t>(backend->length())); }
};

// An image that need not be fit for anything else. `file`: the options of the node below.
inline Result<ImageCheck> try_check_image(BlockFixture& fixture, Json file, CheckFix fix,
                                          std::vector<std::string>* lines = nullptr) {
    NodeFlags flags{.read_only = fix == CheckFix::None, .check = true};
    ChildPerm perms = fix == CheckFix::None
                          ? BlockFixture::kReadOnly
                          : ChildPerm{BlockPerm::ConsistentRead | BlockPerm::Write | BlockPerm::Resize, BlockPerm::All};
    Json options{{"driver", "qcow2"}, {"backing", nullptr}, {"file", std::move(file)}};
    auto backend = BlockFixture::check(
        fixture.run(co_open_backend(*fixture.graph, std::move(options), Typing::Strict, flags, perms)));
    auto check = fixture.run(backend->root()->driver().image_format()->co_check(fix, [lines](const std::string& line) {
        if (lines)
            lines->push_back(line);
    }));
    BlockFixture::check(fixture.run(backend->co_detach()));
    return check;
}
inline ImageCheck check_image(BlockFixture& fixture, Json file, CheckFix fix) {
    return BlockFixture::check(try_check_image(fixture, std::move(file), fix));
}

inline void assert_same(const Bytes& a, const Bytes& b) {
    g_assert_cmpuint(a.size(), ==, b.size());
    for (size_t i = 0; i < a.size(); i++)
        if (a[i] != b[i])
            g_error("byte %zu is %02x instead of %02x", i, std::to_integer<unsigned>(a[i]),
                    std::to_integer<unsigned>(b[i]));
}

}  // namespace ashlar::test

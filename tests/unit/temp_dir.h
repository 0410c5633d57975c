// TempDir: a directory for the files of one test, removed with all that is in it. TempDir::on_disk() is on the file
// system of the build folder, which knows O_DIRECT, where /tmp may be a tmpfs.
#pragma once

#include <glib.h>

#include <filesystem>
#include <string>

namespace ashlar {

class TempDir {
public:
    explicit TempDir(std::string parent = std::filesystem::temp_directory_path()) {
        path_ = parent + "/ashlar-test-XXXXXX";
        g_assert_nonnull(g_mkdtemp(path_.data()));
    }
    static TempDir on_disk() { return TempDir(std::filesystem::current_path()); }
    TempDir(const TempDir&) = delete;
    ~TempDir() { std::filesystem::remove_all(path_); }

    std::string file(const char* name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

}  // namespace ashlar

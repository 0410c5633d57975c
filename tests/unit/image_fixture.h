// ImageFixture: a graph, and backends of it that end with the test.
#pragma once

#include "tests/unit/block_fixture.h"

#include <deque>
#include <memory>
#include <random>
#include <string>

namespace ashlar {

struct ImageFixture : BlockFixture {
    std::minstd_rand random{static_cast<unsigned>(g_test_rand_int_range(1, INT32_MAX))};
    std::deque<std::unique_ptr<BlockBackend>> backends;

    ~ImageFixture() {
        for (auto& backend : backends)
            detach(backend);
    }

    BlockBackend& open(const std::string& options, ChildPerm perms = kReadWrite) {
        backends.push_back(attach(add(options), perms));
        return *backends.back();
    }
};

}  // namespace ashlar

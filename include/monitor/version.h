// What version of Ashlar this is, as QMP (query-version and the greeting) and -version say it.
#pragma once

#include "util/options.h"

namespace ashlar {

struct VersionTriple {
    int major = 0;
    int minor = 0;
    int micro = 0;

    static const OptionSet<VersionTriple>& options();
};

// The member is called "qemu" because QEMU's clients look for it there.
struct VersionInfo {
    VersionTriple qemu;
    std::string package;

    static const OptionSet<VersionInfo>& options();
};

VersionInfo version_info();

// "ashlar version 0.1.0" and the licence, as -version and --version print it.
std::string version_text(std::string_view program);

}  // namespace ashlar

#include "monitor/version.h"

#include "monitor/config.h"  // made by meson.build

namespace ashlar {

const OptionSet<VersionTriple>& VersionTriple::options() {
    static const auto set = OptionSet<VersionTriple>("VersionTriple")
                                .required("major", &VersionTriple::major, "incompatible changes")
                                .required("minor", &VersionTriple::minor, "new features")
                                .required("micro", &VersionTriple::micro, "corrections");
    return set;
}

const OptionSet<VersionInfo>& VersionInfo::options() {
    static const auto set = OptionSet<VersionInfo>("VersionInfo")
                                .required("qemu", &VersionInfo::qemu, "the version")
                                .required("package", &VersionInfo::package, "the program that this is");
    return set;
}

VersionInfo version_info() {
    return {{ASHLAR_VERSION_MAJOR, ASHLAR_VERSION_MINOR, ASHLAR_VERSION_MICRO}, "ashlar-" ASHLAR_VERSION};
}

std::string version_text(std::string_view program) {
    return fmt::format("{} version {}\nCopyright the Ashlar authors; free software under the Apache License 2.0.\n",
                       program, ASHLAR_VERSION);
}

}  // namespace ashlar

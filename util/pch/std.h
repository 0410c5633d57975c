// What most of our sources include from the standard library, fmt and GLib, compiled once for each library: half of a
// source's compile time. Sources include what they use all the same: the build with -Db_pch=false is to work too.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <glib.h>

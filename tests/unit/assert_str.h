// assert_str: g_assert_cmpstr for C++ strings, temporaries included (the macro lets those dangle).
#pragma once

#include <glib.h>

#include <source_location>
#include <string>
#include <string_view>

inline void assert_str(std::string_view actual, std::string_view expected,
                       std::source_location where = std::source_location::current()) {
    if (actual != expected)
        g_assertion_message_cmpstr(G_LOG_DOMAIN, where.file_name(), static_cast<int>(where.line()),
                                   where.function_name(), "actual == expected", std::string(actual).c_str(),
                                   "==", std::string(expected).c_str());
}

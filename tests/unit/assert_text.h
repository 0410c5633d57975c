// assert_text(got, expected): equality of texts that may be temporaries, which g_assert_cmpstr() cannot take.
#pragma once

#include <glib.h>

#include <string>
#include <string_view>

namespace ashlar {

inline void assert_text_at(const char* file, int line, const char* function, std::string_view got,
                           std::string_view expected) {
    if (got != expected)
        g_assertion_message_cmpstr(G_LOG_DOMAIN, file, line, function, "got == expected", std::string(got).c_str(),
                                   "==", std::string(expected).c_str());
}

}  // namespace ashlar

#define assert_text(got, expected) ::ashlar::assert_text_at(__FILE__, __LINE__, G_STRFUNC, got, expected)

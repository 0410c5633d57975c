// That each public header compiles on its own is seen when this program is built; here, that none was forgotten.
#include <cstdio>

unsigned headers_compiled;

int main() {
    bool all = headers_compiled == HEADERS;
    std::printf("1..1\n%s 1 /headers/each-compiles-on-its-own\n# %u of %u\n", all ? "ok" : "not ok", headers_compiled,
                HEADERS);
    return all ? 0 : 1;
}

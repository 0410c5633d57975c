// Stands in for libFuzzer in ordinary builds: gives the target every file of the folders named on the command line, cut
// off at every length and with every byte changed in turn. A crash or a failed assertion names the file on stderr.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kMutatedBytes = 4096;  // of a file: enough for every seed, and quick under sanitizers

void run(const std::filesystem::path& file) {
    std::fprintf(stderr, "%s\n", file.c_str());
    std::ifstream in(file, std::ios::binary);
    std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(in), {}};
    size_t n = std::min(bytes.size(), kMutatedBytes);
    for (size_t length = 0; length <= n; length++) {
        std::vector<uint8_t> cut(bytes.begin(),
                                 bytes.begin() + static_cast<ptrdiff_t>(length));  // so that ASan sees the end
        LLVMFuzzerTestOneInput(cut.data(), cut.size());
    }
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    for (size_t i = 0; i < n; i++)
        for (uint8_t change : {0x01, 0x80, 0xff}) {
            bytes[i] ^= change;
            LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
            bytes[i] ^= change;
        }
}

}  // namespace

int main(int argc, char** argv) {
    size_t files = 0;
    for (int i = 1; i < argc; i++)
        for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
            run(entry.path());
            files++;
        }
    if (files == 0) {
        std::fprintf(stderr, "no input: name folders with seed inputs\n");
        return 1;
    }
    return 0;
}

#include "util/secrets.h"

#include "util/unique_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <glib.h>
#include <nettle/aes.h>
#include <nettle/cbc.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace ashlar {

namespace {

constexpr size_t kKeySize = AES256_KEY_SIZE;
constexpr size_t kBlockSize = AES_BLOCK_SIZE;

SecretBytes to_bytes(std::string_view text) {
    return SecretBytes({text.begin(), text.end()});
}

// A pipe will do as well.
Result<SecretBytes> read_file(const std::string& name) {
    UniqueFd fd(open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, "Unable to read {}", name);
    std::vector<uint8_t> buffer(Secrets::kMaxFileSize + 1);
    size_t size = 0;
    while (size < buffer.size()) {
        ssize_t got = read(fd.get(), buffer.data() + size, buffer.size() - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(errno, "Unable to read {}", name);
        if (got == 0)
            break;
        size += static_cast<size_t>(got);
    }
    SecretBytes all(std::move(buffer));
    if (size > Secrets::kMaxFileSize)
        return fail("Unable to read {}: a secret has at most {} bytes", name, Secrets::kMaxFileSize);
    return to_bytes(all.text().substr(0, size));
}

// As lenient as GLib is about what is not in groups of four, because QEMU is, and a secret must be the same in both.
Result<SecretBytes> decode_base64(std::string_view text) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";
    if (text.contains('\0'))
        return fail("Base64 data contains embedded NUL characters");
    if (text.find_first_not_of(kAlphabet) != text.npos)
        return fail("Base64 data contains invalid characters");
    std::vector<uint8_t> bytes(text.size() / 4 * 3 + 3);
    gint state = 0;
    guint save = 0;
    bytes.resize(g_base64_decode_step(text.data(), text.size(), bytes.data(), &state, &save));
    return SecretBytes(std::move(bytes));
}

Result<SecretBytes> decode(const SecretBytes& content, const SecretOptions& options) {
    if (options.format != SecretFormat::Base64)
        return content;
    auto decoded = decode_base64(content.text());
    if (!decoded)
        decoded.error().hint =
            fmt::format("They are in '{}', which is in base64 as 'format' says.", options.data ? "data" : "file");
    return decoded;
}

Result<SecretBytes> decrypt_cbc(std::span<const uint8_t> from, const SecretBytes& key, const SecretBytes& iv) {
    aes256_ctx cipher;
    aes256_set_decrypt_key(&cipher, key.bytes().data());
    std::array<uint8_t, kBlockSize> chain;
    std::ranges::copy(iv.bytes(), chain.begin());
    std::vector<uint8_t> plain(from.size());
    cbc_decrypt(&cipher, reinterpret_cast<nettle_cipher_func*>(aes256_decrypt), kBlockSize, chain.data(), from.size(),
                plain.data(), from.data());
    explicit_bzero(&cipher, sizeof cipher);
    SecretBytes padded(std::move(plain));
    const auto bytes = padded.bytes();
    const size_t padding = bytes.empty() ? 0 : bytes.back();
    if (padding == 0 || padding > kBlockSize ||
        !std::ranges::all_of(bytes.last(padding), [padding](uint8_t byte) { return byte == padding; }))
        return std::unexpected(
            Error{.message = fmt::format("Incorrect number of padding bytes ({}) found on decrypted data", padding),
                  .hint = "It was encrypted with another key or another 'iv', or is damaged."});
    return to_bytes(padded.text().substr(0, bytes.size() - padding));
}

Result<SecretBytes> decrypt(const SecretBytes& content, const SecretBytes& key, const SecretOptions& options) {
    if (key.bytes().size() != kKeySize)
        return std::unexpected(
            Error{.message = fmt::format("Key should be {} bytes in length", kKeySize),
                  .hint = fmt::format("'keyid', which is '{}', has {} bytes.", *options.keyid, key.bytes().size())});
    if (!options.iv)
        return fail("IV is required to decrypt secret");
    auto iv = decode_base64(*options.iv);
    if (!iv)
        return std::unexpected(std::move(iv.error()).with_hint("They are in 'iv', 16 bytes in base64."));
    if (iv->bytes().size() != kBlockSize)
        return fail("IV should be {} bytes in length not {}", kBlockSize, iv->bytes().size());
    auto encrypted = decode(content, options);
    if (!encrypted)
        return encrypted;
    const size_t size = encrypted->bytes().size();
    if (size % kBlockSize != 0)
        return fail("Length {} must be a multiple of block size {}", size, kBlockSize);
    return decrypt_cbc(encrypted->bytes(), key, *iv);
}

}  // namespace

const OptionSet<SecretOptions>& SecretOptions::options() {
    static const auto set =
        OptionSet<SecretOptions>("secret")
            .optional("data", &SecretOptions::data, "the secret itself; others see it in the list of processes")
            .optional("file", &SecretOptions::file, "the file that it is in")
            .optional("format", &SecretOptions::format, "how it is written there")
            .optional("keyid", &SecretOptions::keyid, "the secret that it is encrypted with, 32 bytes for AES-256-CBC")
            .optional("iv", &SecretOptions::iv, "the initialization vector for that, 16 bytes in base64");
    return set;
}

SecretBytes::~SecretBytes() {
    if (!bytes_.empty())
        explicit_bzero(bytes_.data(), bytes_.size());
}

Result<void> Secrets::add(const std::string& id, SecretOptions options) {
    if (options.data && options.file)
        return fail("'file' and 'data' are mutually exclusive");
    if (!options.data && !options.file)
        return fail("Either 'file' or 'data' must be provided");
    auto content = options.data ? to_bytes(*options.data) : read_file(*options.file);
    if (content && options.keyid) {
        auto key = lookup(*options.keyid);
        if (!key)
            return std::unexpected(
                std::move(key.error()).with_hint("'keyid' is the id of a secret that has been made before this one."));
        content = decrypt(*content, *key, options);
    } else if (content) {
        content = decode(*content, options);
    }
    if (!content)
        return std::unexpected(std::move(content.error()));
    options.data.reset();
    secrets_[id] = {std::move(*content), std::move(options)};
    return {};
}

void Secrets::remove(std::string_view id) {
    if (auto it = secrets_.find(id); it != secrets_.end())
        secrets_.erase(it);
}

const Secret* Secrets::find(std::string_view id) const {
    auto it = secrets_.find(id);
    return it == secrets_.end() ? nullptr : &it->second;
}

Result<SecretBytes> Secrets::lookup(std::string_view id) const {
    if (const Secret* secret = find(id))
        return secret->content;
    return fail("No secret with id '{}'", id);
}

Result<SecretBytes> Secrets::lookup_utf8(std::string_view id) const {
    auto content = lookup(id);
    if (content && !g_utf8_validate_len(content->text().data(), content->text().size(), nullptr))
        return fail("Data from secret {} is not valid UTF-8", id);
    return content;
}

}  // namespace ashlar

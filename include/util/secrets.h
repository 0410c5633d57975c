// Secrets: passwords and keys that -object secret and object-add give, by id, for options like `key-secret`.
//
// A secret comes in place or from a file, raw or in base64, and may be encrypted with another one, its master key:
// AES-256-CBC with PKCS#7 padding. It is decoded and decrypted when it is added, so its key may be removed then. What a
// Secrets object and its users hold is wiped from memory when they let go of it; what was on a command line or in a
// command is not.
//
// Main context. Refusals have QEMU's words.
#pragma once

#include "util/options.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ashlar {

enum class SecretFormat : uint8_t { Raw, Base64 };
constexpr auto enum_names(SecretFormat) {
    return std::to_array<EnumName<SecretFormat>>({{SecretFormat::Raw, "raw"}, {SecretFormat::Base64, "base64"}});
}

struct SecretOptions {
    std::optional<std::string> data, file;  // one of them
    SecretFormat format = SecretFormat::Raw;
    std::optional<std::string> keyid;  // the master key
    std::optional<std::string> iv;     // base64; goes with `keyid`

    static const OptionSet<SecretOptions>& options();
};

// Bytes that are wiped when they go.
class SecretBytes {
public:
    SecretBytes() = default;
    explicit SecretBytes(std::vector<uint8_t> bytes) : bytes_(std::move(bytes)) {}
    SecretBytes(const SecretBytes&) = default;
    SecretBytes(SecretBytes&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    SecretBytes& operator=(SecretBytes other) noexcept {
        bytes_.swap(other.bytes_);
        return *this;
    }
    ~SecretBytes();

    std::span<const uint8_t> bytes() const { return bytes_; }
    std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

private:
    std::vector<uint8_t> bytes_;
};

struct Secret {
    SecretBytes content;
    SecretOptions options;  // without `data`
};

class Secrets {
public:
    static constexpr size_t kMaxFileSize = 1 << 20;

    // The id is free.
    Result<void> add(const std::string& id, SecretOptions options);
    void remove(std::string_view id);
    const Secret* find(std::string_view id) const;  // null when there is none; valid until it is removed
    const std::map<std::string, Secret, std::less<>>& all() const { return secrets_; }

    // For who uses one: "No secret with id 'x'"; a password has to be UTF-8.
    Result<SecretBytes> lookup(std::string_view id) const;
    Result<SecretBytes> lookup_utf8(std::string_view id) const;

private:
    std::map<std::string, Secret, std::less<>> secrets_;
};

}  // namespace ashlar

#include "tests/unit/assert_text.h"
#include "tests/unit/temp_dir.h"
#include "util/secrets.h"

#include <glib.h>

using namespace ashlar;

namespace {

// The bytes 0 to 31, and 0 to 15, in base64.
constexpr const char* kKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
constexpr const char* kIv = "AAECAwQFBgcICQoLDA0ODw==";

SecretOptions of_data(std::string data, SecretFormat format = SecretFormat::Raw) {
    return {.data = std::move(data), .format = format};
}

// Encrypted by kKey with kIv.
SecretOptions encrypted(std::string base64) {
    return {.data = std::move(base64), .format = SecretFormat::Base64, .keyid = "key", .iv = kIv};
}

Secrets with_key() {
    Secrets secrets;
    g_assert_true(secrets.add("key", of_data(kKey, SecretFormat::Base64)).has_value());
    return secrets;
}

void assert_refused(Secrets& secrets, SecretOptions options, std::string_view message) {
    auto added = secrets.add("s", std::move(options));
    g_assert_false(added.has_value());
    assert_text(added.error().message, message);
    g_assert_null(secrets.find("s"));
}

void assert_content(Secrets& secrets, SecretOptions options, std::string_view content) {
    auto added = secrets.add("s", std::move(options));
    if (!added)
        g_error("%s", added.error().message.c_str());
    assert_text(secrets.lookup("s")->text(), content);
    secrets.remove("s");
}

SecretOptions of_file(const TempDir& dir, std::string_view content, SecretFormat format = SecretFormat::Raw) {
    std::string name = dir.file("secret");
    g_assert_true(g_file_set_contents(name.c_str(), content.data(), static_cast<gssize>(content.size()), nullptr));
    return {.file = name, .format = format};
}

void test_sources() {
    TempDir dir;
    Secrets secrets;
    assert_content(secrets, of_data("hello"), "hello");
    assert_content(secrets, of_data(""), "");
    assert_content(secrets, of_file(dir, std::string_view("a\0b\n", 4)), std::string_view("a\0b\n", 4));
    assert_content(secrets, of_file(dir, ""), "");
    assert_refused(secrets, {}, "Either 'file' or 'data' must be provided");
    assert_refused(secrets, {.data = "a", .file = "b"}, "'file' and 'data' are mutually exclusive");
    const std::string missing = dir.file("missing");
    assert_refused(secrets, {.file = missing}, "Unable to read " + missing + ": No such file or directory");
    assert_refused(secrets, {.file = "/dev/zero"}, "Unable to read /dev/zero: a secret has at most 1048576 bytes");
}

void test_base64() {
    TempDir dir;
    Secrets secrets;
    assert_content(secrets, of_data("aGVsbG8=", SecretFormat::Base64), "hello");
    assert_content(secrets, of_file(dir, "aGVs\nbG8=\n", SecretFormat::Base64), "hello");
    assert_content(secrets, of_data("", SecretFormat::Base64), "");
    for (const char* wrong : {"aGVs bG8=", "aGVs\r\nbG8=", "a*=="})
        assert_refused(secrets, of_data(wrong, SecretFormat::Base64), "Base64 data contains invalid characters");
    assert_refused(secrets, of_file(dir, std::string_view("aGVs\0bG8=", 9), SecretFormat::Base64),
                   "Base64 data contains embedded NUL characters");
}

// What `openssl enc -aes-256-cbc` makes of these.
void test_decryption() {
    TempDir dir;
    Secrets secrets = with_key();
    assert_content(secrets, encrypted("f9Etr7fpWZ0LhJrYwuPCHw=="), "hello");
    auto raw = of_data("f9Etr7fpWZ0LhJrYwuPCHw==", SecretFormat::Base64);
    g_assert_true(secrets.add("raw", raw).has_value());
    SecretOptions from_file = of_file(dir, secrets.lookup("raw")->text());
    from_file.keyid = "key";
    from_file.iv = kIv;
    assert_content(secrets, from_file, "hello");

    // A secret stays when its key goes.
    g_assert_true(secrets.add("s", encrypted("f9Etr7fpWZ0LhJrYwuPCHw==")).has_value());
    secrets.remove("key");
    assert_text(secrets.lookup("s")->text(), "hello");
    assert_text(*secrets.find("s")->options.keyid, "key");
    g_assert_false(secrets.find("s")->options.data.has_value());
}

void test_refused_decryption() {
    Secrets secrets;
    const char* hello = "f9Etr7fpWZ0LhJrYwuPCHw==";
    assert_refused(secrets, encrypted(hello), "No secret with id 'key'");
    g_assert_true(secrets.add("key", of_data("short")).has_value());
    assert_refused(secrets, encrypted(hello), "Key should be 32 bytes in length");
    secrets = with_key();
    SecretOptions options = encrypted(hello);
    options.iv.reset();
    assert_refused(secrets, options, "IV is required to decrypt secret");
    options.iv = "AAAA";
    assert_refused(secrets, options, "IV should be 16 bytes in length not 3");
    options.iv = "?";
    assert_refused(secrets, options, "Base64 data contains invalid characters");
    assert_refused(secrets, encrypted("AAAA"), "Length 3 must be a multiple of block size 16");
    assert_refused(secrets, encrypted(""), "Incorrect number of padding bytes (0) found on decrypted data");
    // Another key makes noise of it.
    g_assert_true(secrets.add("key", of_data(std::string(32, 'k'))).has_value());
    auto added = secrets.add("s", encrypted(hello));
    g_assert_false(added.has_value());
    g_assert_true(added.error().message.starts_with("Incorrect number of padding bytes ("));
}

void test_lookup() {
    Secrets secrets;
    auto missing = secrets.lookup("s");
    assert_text(missing.error().message, "No secret with id 's'");
    g_assert_true(secrets.add("s", of_data("\xff\xfe")).has_value());
    g_assert_cmpuint(secrets.lookup("s")->bytes().size(), ==, 2);
    assert_text(secrets.lookup_utf8("s").error().message, "Data from secret s is not valid UTF-8");
    g_assert_true(secrets.add("t", of_data("schl\xc3\xbcssel")).has_value());
    assert_text(secrets.lookup_utf8("t")->text(), "schl\xc3\xbcssel");
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/secrets/come-in-place-or-from-a-file", test_sources);
    g_test_add_func("/secrets/base64-is-decoded-as-QEMU-does", test_base64);
    g_test_add_func("/secrets/AES-256-CBC-by-another-secret", test_decryption);
    g_test_add_func("/secrets/what-cannot-be-decrypted-is-refused", test_refused_decryption);
    g_test_add_func("/secrets/lookup-says-what-is-wrong", test_lookup);
    return g_test_run();
}

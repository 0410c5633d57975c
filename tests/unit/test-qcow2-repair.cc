// Repairs of qcow2 images: what is damaged in a table of ways is found as qemu-img finds it, and is whole
// after a repair.
#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <filesystem>
#include <functional>

#include "block/image_format.h"
#include "block/open_backend.h"
#include "block/qcow2/cluster_counts.h"
#include "tests/unit/qcow2_patient.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

std::string output_of(std::vector<std::string> words, int* status = nullptr) {
    std::vector<char*> argv;
    for (std::string& word : words)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    g_autofree char *out = nullptr, *err = nullptr;
    int exit_status = -1;
    g_assert_true(g_spawn_sync(nullptr, argv.data(), nullptr, G_SPAWN_SEARCH_PATH, nullptr, nullptr, &out, &err,
                               &exit_status, nullptr));
    if (status)
        *status = exit_status >> 8;
    return out;
}

void qemu(const std::vector<std::string>& words) {
    g_assert_cmpint(run_program(words), ==, 0);
}

Bytes read_file(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(in), {});
    auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

struct Source {
    const char* name;
    const char* options;
    std::vector<const char*> commands;  // of qemu-io; "snapshot", "bitmap" or "compressed" are qemu-img's
    const char* size = "64M";
};

const Source kSources[] = {
    {"plain",
     "compat=1.1",
     {"write -P 1 0 1M", "write -P 2 10M 128k", "write -z 20M 1M", "snapshot", "write -P 3 0 64k"}},
    {"v2", "compat=0.10", {"write -P 1 0 1M", "snapshot", "write -P 2 512k 1M"}},
    {"extended", "extended_l2=on", {"write -P 1 0 1M", "write -P 2 2M 2k", "write -z 4M 64k", "write -z 5M 2k"}},
    {"compressed", "compat=1.1", {"write -c -P 1 0 64k", "write -c -P 2 64k 64k", "write -c -P 3 1M 64k"}},
    {"data-file", "data_file=data.raw", {"write -P 1 0 1M", "write -P 2 4M 64k"}},
    {"bits-1", "refcount_bits=1", {"write -P 1 0 1M", "write -P 2 10M 128k"}},
    {"bits-2", "refcount_bits=2", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"bits-4", "refcount_bits=4", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"bits-8", "refcount_bits=8", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"bits-32", "refcount_bits=32", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"bits-64", "refcount_bits=64", {"write -P 1 0 1M", "snapshot", "write -P 2 10M 128k"}},
    {"cluster-512", "cluster_size=512", {"write -P 1 0 1M", "write -P 2 2M 5k", "snapshot", "write -P 3 500k 20k"}},
    {"cluster-2M", "cluster_size=2M", {"write -P 1 0 5M", "snapshot", "write -P 2 1M 1M"}},
    {"bitmaps", "compat=1.1", {"write -P 1 0 1M", "bitmap", "write -P 2 1M 1M"}},
};

const Source& source(std::string_view name) {
    return *std::ranges::find(kSources, name, &Source::name);
}

void make(const Source& from, const TempDir& dir, const std::string& file) {
    std::string options = from.options;
    if (size_t at = options.find("data.raw"); at != std::string::npos)
        options.replace(at, 8, dir.file("data.raw"));
    qemu({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, file, from.size});
    for (std::string command : from.commands) {
        if (command == "snapshot")
            qemu({"qemu-img", "snapshot", "-c", "s", file});
        else if (command == "bitmap")
            qemu({"qemu-img", "bitmap", "--add", file, "b"});
        else
            qemu({"qemu-io", "-f", "qcow2", "-c", command, file});
    }
}

// Ours.
struct Outcome {
    Result<ImageCheck> check;
    std::vector<std::string> lines;
};

Outcome check_image(const std::string& file, CheckFix fix) {
    BlockFixture fixture;
    Outcome outcome;
    outcome.check = try_check_image(fixture, Json{{"driver", "file"}, {"filename", file}}, fix, &outcome.lines);
    return outcome;
}

// qemu-img's: all numbers by name, and "status".
struct Oracle {
    Json json;
    int status = 0;

    int64_t get(const char* name) const {
        const Json* value = json_find(json, name);
        return value ? value->get<int64_t>() : 0;
    }
};

Oracle ask_qemu(const std::string& file) {
    Oracle oracle;
    std::string text = output_of({"qemu-img", "check", "--output=json", "-f", "qcow2", file}, &oracle.status);
    oracle.json = text.empty() ? Json::object() : BlockFixture::check(parse_json_object(text));
    return oracle;
}

enum Expect : unsigned {
    kSameCounts = 1 << 0,     // corruptions and leaks are as many as qemu-img finds
    kRepairable = 1 << 1,     // nothing is left to be found
    kKeepsContents = 1 << 2,  // and the disk reads as it did before it was damaged
    kAll = 7,
};

struct Damage {
    const char* name;
    const char* source;
    std::function<void(Patient&)> apply;
    unsigned expect = kAll;
};

auto change_entry(size_t index, uint64_t (*to)(uint64_t)) {
    return [=](Patient& patient) { patient.put64(patient.entry(index), to(patient.u64(patient.entry(index)))); };
}
auto change_l1(uint64_t (*to)(uint64_t)) {
    return [=](Patient& patient) { patient.put64(patient.l1(), to(patient.u64(patient.l1()))); };
}
auto change_reftable(size_t index, uint64_t (*to)(uint64_t)) {
    return [=](Patient& patient) {
        size_t at = patient.reftable() + index * 8;
        patient.put64(at, to(patient.u64(at)));
    };
}
void zero_refblock(Patient& patient) {
    std::fill_n(patient.bytes.begin() + static_cast<ptrdiff_t>(patient.refblock()), patient.cluster(), std::byte{0});
}
void fill_refblock(Patient& patient) {
    std::fill_n(patient.bytes.begin() + static_cast<ptrdiff_t>(patient.refblock()), patient.cluster(), std::byte{0x5a});
}

const Damage kDamages[] = {
    {"nothing", "plain", [](Patient&) {}},
    {"nothing-v2", "v2", [](Patient&) {}},
    {"nothing-extended", "extended", [](Patient&) {}},
    {"nothing-compressed", "compressed", [](Patient&) {}},
    {"nothing-data-file", "data-file", [](Patient&) {}},
    {"nothing-cluster-512", "cluster-512", [](Patient&) {}},
    {"nothing-cluster-2M", "cluster-2M", [](Patient&) {}},
    {"nothing-bitmaps", "bitmaps", [](Patient&) {}},
    {"nothing-bits-1", "bits-1", [](Patient&) {}},
    {"nothing-bits-64", "bits-64", [](Patient&) {}},
    {"dirty-bit", "plain", [](Patient& p) { p.put64(72, kDirty); }},
    {"corrupt-bit", "plain", [](Patient& p) { p.put64(72, kCorrupt); }},

    {"entry-unaligned", "plain", change_entry(3, [](uint64_t e) { return e + 512; }), kSameCounts},
    {"entry-reserved-bit", "plain", change_entry(3, [](uint64_t e) { return e | 2; }), kSameCounts},
    {"entry-zero-unaligned", "plain", change_entry(3, [](uint64_t e) { return (e + 512) | 1; }),
     kSameCounts | kRepairable},
    {"entry-beyond-the-end", "plain", change_entry(3, [](uint64_t) { return uint64_t{0x100000000} | kCopied; }),
     kSameCounts},
    {"entry-twice", "plain", [](Patient& p) { p.put64(p.entry(3), p.u64(p.entry(0))); }, kSameCounts | kRepairable},
    {"entry-over-l1", "plain", [](Patient& p) { p.put64(p.entry(3), p.l1() | kCopied); }, kSameCounts | kRepairable},
    {"entry-over-header", "bits-1", [](Patient& p) { p.put64(p.entry(3), p.reftable() | kCopied); }, kSameCounts},
    {"copied-cleared", "plain", change_entry(0, [](uint64_t e) { return e & ~kCopied; })},
    {"copied-cleared-l1", "plain", change_l1([](uint64_t e) { return e & ~kCopied; })},
    {"copied-on-shared", "plain", change_entry(3, [](uint64_t e) { return e | kCopied; })},
    {"copied-cleared-data-file", "data-file", change_entry(1, [](uint64_t e) { return e & ~kCopied; })},
    {"copied-on-compressed", "compressed", change_entry(0, [](uint64_t e) { return e | kCopied; })},
    {"compressed-beyond-the-end", "compressed", change_entry(0, [](uint64_t) { return kCompressed | 0x1000000; }),
     kSameCounts},
    {"compressed-in-data-file", "data-file", change_entry(1, [](uint64_t) { return kCompressed | 0x50000; }),
     kSameCounts},
    {"subclusters-both", "extended", [](Patient& p) { p.put64(p.entry(2) + 8, ~uint64_t{0}); }, kSameCounts},
    {"subclusters-nowhere", "extended", [](Patient& p) { p.put64(p.entry(500) + 8, 3); }, kSameCounts},
    {"subclusters-zero-unaligned", "extended",
     [](Patient& p) {
         p.put64(p.entry(2), p.u64(p.entry(2)) + 512);
         p.put64(p.entry(2) + 8, uint64_t{0xffffffff} << 32);
     },
     kSameCounts | kRepairable},
    {"subclusters-zero-flag", "extended", change_entry(2, [](uint64_t e) { return e | kZero; }),
     kRepairable | kKeepsContents},

    {"l1-reserved-bit", "plain", change_l1([](uint64_t e) { return e | 1; }), kSameCounts},
    {"l1-unaligned", "plain", change_l1([](uint64_t e) { return e + 512; }), 0},
    {"l1-beyond-the-end", "plain", change_l1([](uint64_t) { return uint64_t{0x100000000} | kCopied; }), kSameCounts},
    {"l1-twice", "plain", [](Patient& p) { p.put64(p.l1() + 8, p.u64(p.l1())); }, kSameCounts | kRepairable},
    {"l1-to-itself", "plain", [](Patient& p) { p.put64(p.l1(), p.l1() | kCopied); }, 0},

    {"leak", "plain", [](Patient& p) { p.set_count(p.refblock() / p.cluster(), 5); }},
    {"leak-shared", "plain", [](Patient& p) { p.set_count(p.data_cluster(3), 3); }},
    {"leak-unshared", "plain", [](Patient& p) { p.set_count(p.data_cluster(0), 2); }},
    {"leak-bits-2", "bits-2", [](Patient& p) { p.set_count(p.data_cluster(3), 3); }},
    {"leak-bits-4", "bits-4", [](Patient& p) { p.set_count(p.data_cluster(3), 9); }},
    {"leak-bits-8", "bits-8", [](Patient& p) { p.set_count(p.data_cluster(3), 200); }},
    {"leak-bits-32", "bits-32", [](Patient& p) { p.set_count(p.data_cluster(3), 1 << 20); }},
    {"leak-bits-64", "bits-64", [](Patient& p) { p.set_count(p.data_cluster(3), uint64_t{1} << 40); }},
    {"too-low", "plain", [](Patient& p) { p.set_count(p.data_cluster(3), 1); }},
    {"too-low-bits-2", "bits-2", [](Patient& p) { p.set_count(p.data_cluster(3), 1); }},
    {"too-low-bits-64", "bits-64", [](Patient& p) { p.set_count(p.data_cluster(3), 1); }},
    {"not-counted", "plain", [](Patient& p) { p.set_count(p.data_cluster(3), 0); }},
    {"not-counted-bits-1", "bits-1", [](Patient& p) { p.set_count(p.data_cluster(3), 0); }},
    {"header-not-counted", "plain", [](Patient& p) { p.set_count(0, 0); }},
    {"refblock-zeroes", "plain", zero_refblock},
    {"refblock-zeroes-v2", "v2", zero_refblock},
    {"refblock-zeroes-bits-1", "bits-1", zero_refblock},
    {"refblock-zeroes-bits-64", "bits-64", zero_refblock},
    {"refblock-zeroes-cluster-512", "cluster-512", zero_refblock},
    {"refblock-zeroes-cluster-2M", "cluster-2M", zero_refblock},
    {"refblock-zeroes-compressed", "compressed", zero_refblock},
    {"refblock-zeroes-data-file", "data-file", zero_refblock},
    {"refblock-zeroes-bitmaps", "bitmaps", zero_refblock},
    {"refblock-rubbish", "plain", fill_refblock},
    {"refblock-rubbish-bits-4", "bits-4", fill_refblock},
    {"refblock-rubbish-bits-64", "bits-64", fill_refblock},

    // Here qemu-img counts every cluster that it cannot look up as an error of its own, or one more leak.
    {"reftable-unaligned", "plain", change_reftable(0, [](uint64_t e) { return e + 512; }),
     kRepairable | kKeepsContents},
    {"reftable-reserved-bit", "plain", change_reftable(0, [](uint64_t e) { return e | 1; }),
     kRepairable | kKeepsContents},
    {"reftable-beyond-the-end", "plain", change_reftable(0, [](uint64_t) { return uint64_t{1} << 40; })},
    {"reftable-far-beyond-the-end", "plain", change_reftable(1, [](uint64_t) { return uint64_t{1} << 40; })},
    {"reftable-zero", "plain", change_reftable(0, [](uint64_t) { return uint64_t{0}; })},
    {"reftable-twice", "plain", [](Patient& p) { p.put64(p.reftable() + 8, p.refblock()); }},
    {"reftable-block-is-l1", "plain", [](Patient& p) { p.put64(p.reftable() + 8, p.l1()); }},
    {"reftable-block-is-l1-bits-1", "bits-1", [](Patient& p) { p.put64(p.reftable() + 8, p.l1()); },
     kRepairable | kKeepsContents},  // qemu-img finds one thing of the two
    {"reftable-offset-0", "plain", [](Patient& p) { p.put64(48, 0); }, kRepairable | kKeepsContents},
    {"reftable-offset-unaligned", "plain", [](Patient& p) { p.put64(48, p.reftable() + 512); },
     kRepairable | kKeepsContents},
    {"reftable-offset-beyond-the-end", "plain", [](Patient& p) { p.put64(48, uint64_t{1} << 40); }},
    {"reftable-clusters-0", "plain", [](Patient& p) { p.put32(56, 0); }},

    {"snapshots-beyond-the-end", "plain", [](Patient& p) { p.put64(64, uint64_t{1} << 40); },
     kRepairable | kKeepsContents},
    {"snapshots-too-many", "plain", [](Patient& p) { p.put32(60, 2); }},
    {"snapshots-far-too-many", "cluster-512", [](Patient& p) { p.put32(60, 60'000); }, 0},
    {"snapshot-incomplete", "plain", [](Patient& p) { p.put32(p.u64(64) + 36, 0); }},
    {"snapshot-extra-too-large", "plain", [](Patient& p) { p.put32(p.u64(64) + 36, 2000); },
     kRepairable | kKeepsContents},
    {"snapshot-extra-beyond-the-end", "plain", [](Patient& p) { p.put32(p.u64(64) + 36, 0x7fffffff); },
     kRepairable | kKeepsContents},
    {"snapshot-l1-too-large", "plain", [](Patient& p) { p.put32(p.u64(64) + 8, 0x7fffffff); }, 0},
    {"snapshot-incomplete-and-counts-of-zero", "plain",
     [](Patient& p) {
         p.put32(p.u64(64) + 36, 0);
         zero_refblock(p);
     },
     kRepairable | kKeepsContents},
    {"snapshot-l1-unaligned", "plain", [](Patient& p) { p.put64(p.u64(64), p.u64(p.u64(64)) + 512); }, 0},
    {"cut-short", "plain", [](Patient& p) { p.bytes.resize(p.bytes.size() - 3 * p.cluster()); }, 0},
    {"longer", "plain", [](Patient& p) { p.bytes.resize(p.bytes.size() + 200'000, std::byte{0x77}); }},
};

bool skip_without_qemu() {
    if (have_qemu_img())
        return false;
    g_test_skip("qemu-img is not installed");
    return true;
}

void show(const Outcome& outcome) {
    for (const std::string& line : outcome.lines)
        g_test_message("%s", line.c_str());
    if (outcome.check)
        g_test_message("errors %" PRId64 " corruptions %" PRId64 " leaks %" PRId64 " fixed %" PRId64 " and %" PRId64,
                       outcome.check->errors, outcome.check->corruptions, outcome.check->leaks,
                       outcome.check->corruptions_fixed, outcome.check->leaks_fixed);
    else
        g_test_message("%s", outcome.check.error().message.c_str());
}

void damage_is_found_and_repaired(gconstpointer data) {
    if (skip_without_qemu())
        return;
    const Damage& damage = *static_cast<const Damage*>(data);
    TempDir dir;
    std::string whole = dir.file("whole.qcow2"), file = dir.file("image.qcow2");
    make(source(damage.source), dir, whole);
    Patient patient{read_file(whole)};
    damage.apply(patient);
    write_file(file, patient.bytes);

    Oracle theirs = ask_qemu(file);
    Outcome ours = check_image(file, CheckFix::None);
    show(ours);
    g_assert_true(ours.check.has_value());
    assert_same(read_file(file), patient.bytes);
    if (damage.expect & kSameCounts) {
        g_assert_cmpint(ours.check->errors, ==, theirs.get("check-errors"));
        g_assert_cmpint(ours.check->corruptions, ==, theirs.get("corruptions"));
        g_assert_cmpint(ours.check->leaks, ==, theirs.get("leaks"));
        g_assert_cmpint(*ours.check->image_end_offset, ==, theirs.get("image-end-offset"));
        const ImageCheck::Clusters& clusters = *ours.check->clusters;
        g_assert_cmpint(clusters.total, ==, theirs.get("total-clusters"));
        g_assert_cmpint(clusters.allocated, ==, theirs.get("allocated-clusters"));
        g_assert_cmpint(clusters.fragmented, ==, theirs.get("fragmented-clusters"));
        g_assert_cmpint(clusters.compressed, ==, theirs.get("compressed-clusters"));
    }

    // Leaks only: what else is wrong is not worse than before.
    Outcome leaks = check_image(file, CheckFix::Leaks);
    if (leaks.check) {
        g_assert_cmpint(leaks.check->corruptions, <=, ours.check->corruptions);
        if (damage.expect & kSameCounts)
            g_assert_cmpint(leaks.check->leaks, ==, 0);
    }
    Outcome repaired = check_image(file, CheckFix::All);
    show(repaired);
    g_assert_true(repaired.check.has_value());
    Outcome again = check_image(file, CheckFix::None);
    show(again);
    g_assert_true(again.check.has_value());
    g_assert_cmpint(again.check->corruptions, ==, repaired.check->corruptions);
    g_assert_cmpint(again.check->leaks, ==, repaired.check->leaks);
    g_assert_cmpint(*again.check->image_end_offset, ==, *repaired.check->image_end_offset);
    if (damage.expect & kRepairable) {
        g_assert_cmpint(again.check->corruptions + again.check->leaks + again.check->errors, ==, 0);
        g_assert_cmpint(run_program({"qemu-img", "check", "-q", "-f", "qcow2", file}), ==, 0);
        Patient after{read_file(file)};
        if (after.u32(4) >= 3)
            g_assert_cmpuint(after.u64(72) & (kDirty | kCorrupt), ==, 0);
        if (std::string_view(damage.source) == "bitmaps")  // which cannot be written yet
            return;
        BlockFixture fixture;
        OpenImage writable(fixture, file, true, ", 'backing': null");
        Bytes block(70'000, std::byte{0x42});
        g_assert_cmpint(writable.backend->pwrite(1 << 20, static_cast<int64_t>(block.size()), block.data()), ==, 0);
        assert_same(writable.read(1 << 20, block.size()), block);
    }
    if (damage.expect & kKeepsContents) {
        write_file(file, patient.bytes);
        g_assert_true(check_image(file, CheckFix::All).check.has_value());
        g_assert_cmpint(run_program({"qemu-img", "compare", "-q", whole, file}), ==, 0);
    }
}

// Those that a repair leaves are as many as there may be.
void too_many_snapshots_are_cut_off() {
    if (skip_without_qemu())
        return;
    constexpr uint32_t kMost = 65536, kMore = 3;
    TempDir dir;
    std::string file = dir.file("image.qcow2");
    make(source("plain"), dir, file);
    Patient patient{read_file(file)};
    const size_t one = patient.u64(64);
    const size_t bytes = 40 + 24 + 8;  // with the extra data that QEMU writes, an id and a name of one letter
    Bytes entry(patient.bytes.begin() + static_cast<ptrdiff_t>(one),
                patient.bytes.begin() + static_cast<ptrdiff_t>(one + bytes));
    const size_t table = (patient.bytes.size() + patient.cluster() - 1) / patient.cluster() * patient.cluster();
    patient.bytes.resize(table);
    for (uint32_t i = 0; i < kMost + kMore; i++) {
        patient.bytes.insert(patient.bytes.end(), entry.begin(), entry.end());
        std::ranges::fill_n(entry.begin(), 12, std::byte{0});  // the others have no L1 table
    }
    patient.put32(60, kMost + kMore);
    patient.put64(64, table);
    write_file(file, patient.bytes);
    for (CheckFix fix : {CheckFix::None, CheckFix::Leaks}) {
        Outcome refused = check_image(file, fix);
        g_assert_false(refused.check.has_value());
        assert_text(refused.check.error().message, "Check failed: File too large");
        assert_text(refused.lines.at(1), "You can force-remove all 3 overhanging snapshots with qemu-img check -r all");
        assert_same(read_file(file), patient.bytes);
    }
    Outcome repaired = check_image(file, CheckFix::All);
    g_assert_true(repaired.check.has_value());
    assert_text(repaired.lines.at(0), "Discarding 3 overhanging snapshots");
    g_assert_cmpint(repaired.check->corruptions + repaired.check->leaks + repaired.check->errors, ==, 0);
    g_assert_cmpint(repaired.check->corruptions_fixed, >=, kMore);
    g_assert_cmpuint(Patient{read_file(file)}.u32(60), ==, kMost);
    g_assert_cmpint(run_program({"qemu-img", "check", "-q", "-f", "qcow2", file}), ==, 0);
}

void counts_of_any_size_are_kept() {
    ClusterCounts counts;
    std::vector<uint64_t> model(5000);
    for (int i = 0; i < 20000; i++) {
        auto at = static_cast<size_t>(g_test_rand_int_range(0, 5000));
        uint64_t value = (uint64_t{static_cast<uint32_t>(g_test_rand_int())} << 32 | 1) >> g_test_rand_int_range(0, 64);
        counts.set(at, value);
        model[at] = value;
    }
    uint64_t end = 0;
    for (size_t i = 0; i < model.size(); i++) {
        g_assert_cmpuint(counts.get(i), ==, model[i]);
        if (model[i] != 0)
            end = i + 1;
    }
    g_assert_cmpuint(counts.end(), ==, end);
    g_assert_cmpuint(counts.get(uint64_t{1} << 40), ==, 0);
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/qcow2-repair/counts-of-any-size-are-kept", counts_of_any_size_are_kept);
    g_test_add_func("/qcow2-repair/too-many-snapshots-are-cut-off", too_many_snapshots_are_cut_off);
    for (const Damage& damage : kDamages)
        g_test_add_data_func(fmt::format("/qcow2-repair/damage-is-found-and-repaired/{}", damage.name).c_str(), &damage,
                             damage_is_found_and_repaired);
    return g_test_run();
}

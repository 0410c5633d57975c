// A crash at any point of a repair: what it leaves is no worse than what there was, and can be repaired; then nothing
// is lost.
#include "tests/unit/crash_work.h"
#include "tests/unit/qcow2_patient.h"

using namespace ashlar;
using namespace ashlar::test;
using namespace ashlar::qcow2;

namespace {

constexpr int kSteps = 25, kSamplesPerFlush = 4;

struct Damage {
    const char* name;
    CrashKind kind;
    void (*apply)(Patient& patient);
};

void fill_first_block(Patient& patient, std::byte value) {
    std::fill_n(patient.bytes.begin() + static_cast<ptrdiff_t>(patient.refblock()), patient.cluster(), value);
}

void zero_counts(Patient& patient) {
    fill_first_block(patient, std::byte{0});
}
void spoil_counts(Patient& patient) {
    fill_first_block(patient, std::byte{0x5a});
}
// Of every other cluster, whether or not it is in use.
void change_counts(Patient& patient, int by) {
    size_t clusters = std::min(patient.bytes.size(), patient.cluster() << 7) / patient.cluster();
    for (size_t i = 0; i < clusters; i += 2) {
        auto count = get_refcount(patient.bytes.data() + patient.refblock(), i, patient.order());
        if (by > 0 || count > 0)
            patient.set_count(i, count + static_cast<uint64_t>(by));
    }
}
void raise_counts(Patient& patient) {
    change_counts(patient, 1);
}
void lower_counts(Patient& patient) {
    change_counts(patient, -1);
}
// The flag may be missing, at worst a cluster is copied that need not be.
void clear_flags(Patient& patient) {
    for (size_t at = patient.l1(); at < patient.l1() + patient.u32(36) * 8; at += 8)
        patient.put64(at, patient.u64(at) & ~kCopied);
    for (size_t i = 0; i < patient.cluster() / patient.entry_bytes(); i += 2)
        if (!(patient.u64(patient.entry(i)) & kCompressed))
            patient.put64(patient.entry(i), patient.u64(patient.entry(i)) & ~kCopied);
}
void lose_block(Patient& patient) {
    patient.put64(patient.reftable(), uint64_t{1} << 40);
}
void lose_table(Patient& patient) {
    patient.put64(48, 0);
}
void be_dirty(Patient& patient) {
    patient.put64(72, patient.u64(72) | kDirty);
    lower_counts(patient);
}

void crashes_of_a_repair_lose_nothing(gconstpointer data) {
    const Damage& damage = *static_cast<const Damage*>(data);
    CrashFlushed known;
    Patient patient;
    {
        CrashWork work(damage.kind);
        // There is a table to be damaged.
        sync_wait(*work.fixture.context, CrashWork::co_write_many(work));
        for (int i = 0; i < kSteps; i++)
            work.step();
        sync_wait(*work.fixture.context, CrashWork::co_write_many(work));
        work.note_flush();
        known = work.flushes.back();
        work.close();
        patient.bytes = work.file.files[0];
    }
    damage.apply(patient);
    TempDir dir;
    CrashedImage image{dir, false};
    auto check = [&](CheckFix fix) {
        BlockFixture fixture;
        return check_image(fixture, Json{{"driver", "file"}, {"filename", image.file()}}, fix);
    };
    image.put({patient.bytes});
    const ImageCheck before = check(CheckFix::None);
    g_assert_cmpint(before.corruptions + before.leaks, >, 0);

    CrashDisk disk(1);
    disk.files[0] = patient.bytes;
    {
        BlockFixture fixture;
        fixture.registry.add(kRecorder);
        ImageCheck repaired = check_image(fixture, Json{{"driver", "recorder"}}, CheckFix::All);
        g_assert_cmpint(repaired.corruptions + repaired.leaks + repaired.errors, ==, 0);
    }
    g_assert_cmpuint(count_flushes(disk.log), >, 0);
    auto verify = [&](const std::vector<Bytes>& files) {
        image.put(files);
        ImageCheck found = check(CheckFix::None);
        g_assert_cmpint(found.corruptions + found.errors, <=, before.corruptions);
        ImageCheck repaired = check(CheckFix::All);
        g_assert_cmpint(repaired.corruptions + repaired.leaks + repaired.errors, ==, 0);
        image.check_contents(known, damage.kind.bitmap);
    };
    CrashReplay replay({patient.bytes}, disk.log);
    while (replay.next())
        for (int i = 0; i < kSamplesPerFlush; i++)
            verify(replay.crashed());
    verify(replay.complete());
    if (have_qemu_img())
        g_assert_cmpint(run_program({"qemu-img", "check", "-q", "-f", "qcow2", image.file()}), ==, 0);
}

const CrashKind k512{.cluster_bits = 9, .snapshots = true}, k4k{.snapshots = true}, kNarrow{.refcount_bits = 1},
    kWide{.refcount_bits = 64, .snapshots = true}, kV2{.version = Version::V2, .snapshots = true},
    kExtended{.cluster_bits = 14, .extended_l2 = true, .snapshots = true}, kBitmap{.bitmap = true, .snapshots = true};

const Damage kDamages[] = {
    {"counts-of-zero", k4k, zero_counts},
    {"counts-of-zero-cluster-512", k512, zero_counts},
    {"counts-of-zero-refcount-1", kNarrow, zero_counts},
    {"counts-of-zero-refcount-64", kWide, zero_counts},
    {"counts-of-zero-version-2", kV2, zero_counts},
    {"counts-of-zero-bitmap", kBitmap, zero_counts},
    {"rubbish", k4k, spoil_counts},
    {"rubbish-cluster-512", k512, spoil_counts},
    {"counts-too-high", k4k, raise_counts},
    {"counts-too-high-cluster-512", k512, raise_counts},
    {"counts-too-high-subclusters", kExtended, raise_counts},
    {"counts-too-high-version-2", kV2, raise_counts},
    {"flags", k4k, clear_flags},
    {"flags-cluster-512", k512, clear_flags},
    {"flags-subclusters", kExtended, clear_flags},
    {"no-block", k4k, lose_block},
    {"no-block-cluster-512", k512, lose_block},
    {"no-table", k4k, lose_table},
    {"no-table-refcount-1", kNarrow, lose_table},
    {"dirty", k4k, be_dirty},
    {"dirty-cluster-512", k512, be_dirty},
};

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    for (const Damage& damage : kDamages)
        g_test_add_data_func(fmt::format("/qcow2-crash-repair/loses-nothing/{}", damage.name).c_str(), &damage,
                             crashes_of_a_repair_lose_nothing);
    return g_test_run();
}

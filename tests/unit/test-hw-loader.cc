#include "hw/device_tree.h"
#include "hw/loader.h"

extern "C" {
#include <libfdt.h>
}

#include <elf.h>
#include <glib.h>

#include <cstring>
#include <functional>

using namespace ashlar;

namespace {

constexpr MemoryBounds kMemory{0x80000000, 1 << 20};

// An executable with one segment of four bytes in the file and 16 in memory.
struct TestElf {
    Elf64_Ehdr header{};
    Elf64_Phdr segment{};

    TestElf() {
        memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS64;
        header.e_ident[EI_DATA] = ELFDATA2LSB;
        header.e_machine = EM_RISCV;
        header.e_type = ET_EXEC;
        header.e_phentsize = sizeof segment;
        header.e_phnum = 1;
        header.e_phoff = sizeof header;
        header.e_entry = 0x80000104;
        segment.p_type = PT_LOAD;
        segment.p_offset = sizeof header + sizeof segment;
        segment.p_filesz = 4;
        segment.p_memsz = 16;
        segment.p_paddr = segment.p_vaddr = 0x80000100;
    }
    std::vector<uint8_t> bytes() const {
        std::vector<uint8_t> file(sizeof header + sizeof segment);
        memcpy(file.data(), &header, sizeof header);
        memcpy(file.data() + sizeof header, &segment, sizeof segment);
        file.insert(file.end(), {1, 2, 3, 4});
        return file;
    }
};

void test_a_segment_is_loaded_and_its_rest_is_zero() {
    auto image = load_elf(TestElf().bytes(), kMemory);
    g_assert_true(image.has_value());
    g_assert_cmphex(image->entry, ==, 0x80000104);
    g_assert_cmphex(image->end, ==, 0x80000110);
    g_assert_cmpuint(image->segments.size(), ==, 1);
    g_assert_cmphex(image->segments[0].address, ==, 0x80000100);
    g_assert_true((image->segments[0].bytes == std::vector<uint8_t>{1, 2, 3, 4}));
    g_assert_cmpuint(image->segments[0].size, ==, 16);
}

void test_what_is_linked_elsewhere_is_entered_where_it_lies() {
    TestElf elf;
    elf.segment.p_vaddr = 0xffffffff80000000;
    elf.header.e_entry = 0xffffffff80000004;
    auto image = load_elf(elf.bytes(), kMemory);
    g_assert_true(image.has_value());
    g_assert_cmphex(image->entry, ==, 0x80000104);
}

void test_a_file_that_is_not_right_is_refused() {
    const std::function<void(TestElf&)> mistakes[] = {
        [](TestElf& e) { e.header.e_ident[EI_CLASS] = ELFCLASS32; },
        [](TestElf& e) { e.header.e_ident[EI_DATA] = ELFDATA2MSB; },
        [](TestElf& e) { e.header.e_machine = EM_X86_64; },
        [](TestElf& e) { e.header.e_type = ET_REL; },
        [](TestElf& e) { e.header.e_phentsize = 32; },
        [](TestElf& e) { e.header.e_phnum = 2000; },
        [](TestElf& e) { e.header.e_phnum = 0xffff; },
        [](TestElf& e) { e.header.e_phnum = 0; },
        [](TestElf& e) { e.header.e_phoff = UINT64_MAX; },
        [](TestElf& e) { e.header.e_phoff = UINT64_MAX - 55; },
        [](TestElf& e) { e.segment.p_offset = UINT64_MAX - 1; },
        [](TestElf& e) { e.segment.p_filesz = 5; },
        [](TestElf& e) { e.segment.p_filesz = UINT64_MAX; },
        [](TestElf& e) { e.segment.p_memsz = 3; },
        [](TestElf& e) { e.segment.p_memsz = UINT64_MAX; },
        [](TestElf& e) { e.segment.p_memsz = 1 << 20; },
        [](TestElf& e) { e.segment.p_paddr = 0x7fffffff; },
        [](TestElf& e) { e.segment.p_paddr = 0x800ffff8; },
        [](TestElf& e) { e.segment.p_paddr = UINT64_MAX; },
    };
    for (const auto& mistake : mistakes) {
        TestElf elf;
        mistake(elf);
        g_assert_false(load_elf(elf.bytes(), kMemory).has_value());
    }
    auto file = TestElf().bytes();
    for (size_t length = 0; length < file.size(); ++length)
        g_assert_false(load_elf(std::span(file).first(length), kMemory).has_value());
}

void test_random_damage_is_bounded() {
    GRand* random = g_rand_new_with_seed(4);
    const auto good = TestElf().bytes();
    for (int i = 0; i < 100'000; ++i) {
        auto file = good;
        for (int n = g_rand_int_range(random, 1, 6); n > 0; --n)
            file[static_cast<size_t>(g_rand_int_range(random, 0, static_cast<gint32>(file.size())))] =
                static_cast<uint8_t>(g_rand_int(random));
        if (auto image = load_elf(file, kMemory))
            for (const MemorySegment& segment : image->segments)
                g_assert_true(kMemory.contains(segment.address, segment.size) && segment.bytes.size() <= segment.size);
    }
    g_rand_free(random);
}

void test_the_header_of_an_image_is_read() {
    std::vector<uint8_t> file(64);
    g_assert_false(image_header(file).has_value());
    memcpy(file.data() + 56, "RSC\x05", 4);
    file[10] = 0x20;
    file[18] = 0x30;
    const auto header = image_header(file);
    g_assert_true(header.has_value());
    g_assert_cmphex(header->text_offset, ==, 0x200000);
    g_assert_cmphex(header->image_size, ==, 0x300000);
    file.resize(63);
    g_assert_false(image_header(file).has_value());
}

void test_a_binary_must_fit() {
    g_assert_true(load_binary({1, 2, 3}, kMemory.base + kMemory.bytes - 3, kMemory).has_value());
    g_assert_false(load_binary({1, 2, 3}, kMemory.base + kMemory.bytes - 2, kMemory).has_value());
    g_assert_false(load_binary({1, 2, 3}, kMemory.base - 1, kMemory).has_value());
    g_assert_false(load_binary({1, 2, 3}, UINT64_MAX, kMemory).has_value());
}

// --- device tree

std::vector<uint8_t> tree_of(const DeviceTreeSpec& spec) {
    auto tree = build_device_tree(spec);
    g_assert_true(tree.has_value());
    g_assert_cmpint(fdt_check_full(tree->data(), tree->size()), ==, 0);
    return std::move(*tree);
}

uint32_t cell(const std::vector<uint8_t>& tree, const char* path, const char* name, unsigned index) {
    int length = 0;
    const void* property = fdt_getprop(tree.data(), fdt_path_offset(tree.data(), path), name, &length);
    g_assert_nonnull(property);
    g_assert_cmpint(length, >=, static_cast<int>(index * 4 + 4));
    return fdt32_ld(static_cast<const fdt32_t*>(property) + index);
}

void test_the_tree_tells_of_memory_harts_and_command_line() {
    const auto tree = tree_of({.ram_bytes = uint64_t{5} << 30,
                               .harts = 3,
                               .isa = "rv64i",
                               .mmu = "sv39",
                               .bootargs = std::string(100'000, 'x'),
                               .initrd = DeviceTreeSpec::Range{0x84000000, 0x84000123}});
    g_assert_cmphex(cell(tree, "/memory@80000000", "reg", 2), ==, 1);
    g_assert_cmphex(cell(tree, "/memory@80000000", "reg", 3), ==, 0x40000000);
    g_assert_cmphex(cell(tree, "/chosen", "linux,initrd-end", 1), ==, 0x84000123);
    g_assert_cmpint(fdt_path_offset(tree.data(), "/cpus/cpu@2"), >, 0);
    g_assert_cmpint(fdt_path_offset(tree.data(), "/cpus/cpu@3"), <, 0);
    g_assert_cmpuint(strlen(static_cast<const char*>(
                         fdt_getprop(tree.data(), fdt_path_offset(tree.data(), "/chosen"), "bootargs", nullptr))),
                     ==, 100'000);
}

void test_references_lead_to_their_nodes() {
    const auto tree = tree_of({.ram_bytes = 1 << 20, .harts = 2, .isa = "rv64i", .mmu = "sv39"});
    const void* fdt = tree.data();
    const int plic = fdt_path_offset(fdt, "/soc/plic@c000000");
    g_assert_cmpint(fdt_node_offset_by_phandle(fdt, cell(tree, "/soc/serial@10000000", "interrupt-parent", 0)), ==,
                    plic);
    g_assert_cmpint(fdt_node_offset_by_phandle(fdt, cell(tree, "/poweroff", "regmap", 0)), ==,
                    fdt_path_offset(fdt, "/soc/test@100000"));
    for (const char* device : {"/soc/plic@c000000", "/soc/clint@2000000"})
        for (unsigned hart : {0u, 1u})
            g_assert_cmpint(
                fdt_node_offset_by_phandle(fdt, cell(tree, device, "interrupts-extended", hart * 4)), ==,
                fdt_path_offset(fdt, hart ? "/cpus/cpu@1/interrupt-controller" : "/cpus/cpu@0/interrupt-controller"));
}

}  // namespace

int main(int argc, char** argv) {
    g_test_init(&argc, &argv, nullptr);
    g_test_add_func("/loader/a-segment-is-loaded-and-its-rest-is-zero", test_a_segment_is_loaded_and_its_rest_is_zero);
    g_test_add_func("/loader/what-is-linked-elsewhere-is-entered-where-it-lies",
                    test_what_is_linked_elsewhere_is_entered_where_it_lies);
    g_test_add_func("/loader/a-file-that-is-not-right-is-refused", test_a_file_that_is_not_right_is_refused);
    g_test_add_func("/loader/random-damage-is-bounded", test_random_damage_is_bounded);
    g_test_add_func("/loader/the-header-of-an-image-is-read", test_the_header_of_an_image_is_read);
    g_test_add_func("/loader/a-binary-must-fit", test_a_binary_must_fit);
    g_test_add_func("/device-tree/it-tells-of-memory-harts-and-command-line",
                    test_the_tree_tells_of_memory_harts_and_command_line);
    g_test_add_func("/device-tree/references-lead-to-their-nodes", test_references_lead_to_their_nodes);
    return g_test_run();
}

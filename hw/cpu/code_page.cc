#include "hw/cpu/code_page.h"

#include <cstring>

namespace ashlar {

namespace {

void load(CodePage& page, const uint8_t* memory) {
    memcpy(page.bytes.data(), memory, kPageBytes);
    page.slots.fill({});
    page.slots.back().op = Op::page_end;
}

}  // namespace

CodePage& CodeCache::page(uint64_t address, const uint8_t* memory, bool& emptied) {
    emptied = false;
    if (auto found = pages_.find(address); found != pages_.end()) {
        CodePage& page = *found->second;
        if (page.generation != generation_) {
            if (memcmp(page.bytes.data(), memory, kPageBytes) != 0)
                load(page, memory);
            page.generation = generation_;
        }
        return page;
    }
    if (pages_.size() >= kMaxPages) {
        pages_.clear();
        emptied = true;
    }
    CodePage& page = *(pages_[address] = std::make_unique_for_overwrite<CodePage>());
    load(page, memory);
    page.generation = generation_;
    return page;
}

}  // namespace ashlar

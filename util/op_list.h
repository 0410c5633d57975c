// OpList: operations in order, linked by IoOp::next. Private to util/; used by the thread of one AioContext.
#pragma once

#include <utility>

#include "util/io_op.h"

namespace ashlar {

class OpList {
public:
    bool empty() const { return !head_; }
    IoOp* head() const { return head_; }
    void push(IoOp& op) {
        op.next = nullptr;
        *tail_ = &op;
        tail_ = &op.next;
    }
    IoOp& pop() {
        IoOp& op = *head_;
        head_ = op.next;
        if (!head_)
            tail_ = &head_;
        return op;
    }
    bool remove(IoOp& op) {
        for (IoOp** link = &head_; *link; link = &(*link)->next) {
            if (*link != &op)
                continue;
            *link = op.next;
            if (!*link)
                tail_ = link;
            return true;
        }
        return false;
    }
    // Calls `done` of those that are in the list now; true if there was one.
    bool complete_all(int result) {
        IoOp* op = std::exchange(head_, nullptr);
        tail_ = &head_;
        bool any = op != nullptr;
        while (op) {
            IoOp* next = op->next;
            op->done(*op, result);
            op = next;
        }
        return any;
    }

    OpList() = default;
    OpList(const OpList&) = delete;

private:
    IoOp* head_ = nullptr;
    IoOp** tail_ = &head_;
};

}  // namespace ashlar

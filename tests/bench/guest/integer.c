// What an embedded program's integer work is made of, in the proportions that benchmarks of it use: a linked list that
// is searched, reversed and sorted; products of small matrices; a state machine that reads text; and a CRC over all the
// results, so that a wrong one shows. Prints the CRC; it does not depend on the machine.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef short s16;

static volatile u8 *const uart = (volatile u8 *)0x10000000;

static void print_char(char c) {
    while (!(uart[5] & 0x20)) {
    }
    *uart = (u8)c;
}

static void print(const char *text) {
    while (*text)
        print_char(*text++);
}

static void print_hex(u32 value) {
    for (int shift = 28; shift >= 0; shift -= 4)
        print_char("0123456789abcdef"[value >> shift & 15]);
}

static u16 crc16(u32 value, unsigned bytes, u16 crc) {
    for (unsigned i = 0; i < bytes * 8; ++i) {
        const u32 bit = (value ^ crc) & 1;
        crc >>= 1;
        value >>= 1;
        if (bit)
            crc ^= 0xa001;
    }
    return crc;
}

// --- A list.

struct node {
    struct node *next;
    s16 key, index;
};

enum { kNodes = 120 };
static struct node nodes[kNodes];

static struct node *make_list(u32 seed) {
    for (int i = 0; i < kNodes; ++i) {
        seed = seed * 1103515245 + 12345;
        nodes[i].key = (s16)(seed >> 16 & 0x3ff);
        nodes[i].index = (s16)i;
        nodes[i].next = i + 1 < kNodes ? &nodes[i + 1] : 0;
    }
    return nodes;
}

static struct node *find(struct node *list, s16 key) {
    while (list && list->key != key)
        list = list->next;
    return list;
}

static struct node *reverse(struct node *list) {
    struct node *done = 0;
    while (list) {
        struct node *rest = list->next;
        list->next = done;
        done = list;
        list = rest;
    }
    return done;
}

typedef s32 (*compare_fn)(const struct node *, const struct node *);

static s32 by_key(const struct node *a, const struct node *b) {
    return a->key - b->key;
}

static s32 by_index(const struct node *a, const struct node *b) {
    return a->index - b->index;
}

static struct node *merge_sort(struct node *list, compare_fn compare) {
    for (int width = 1;; width *= 2) {
        struct node *left = list, *tail = 0;
        int merges = 0;
        list = 0;
        while (left) {
            struct node *right = left;
            int left_count = 0, right_count = width;
            ++merges;
            while (right && left_count < width) {
                right = right->next;
                ++left_count;
            }
            while (left_count > 0 || (right_count > 0 && right)) {
                struct node *smaller;
                if (left_count == 0 || (right_count > 0 && right && compare(left, right) > 0)) {
                    smaller = right;
                    right = right->next;
                    --right_count;
                } else {
                    smaller = left;
                    left = left->next;
                    --left_count;
                }
                if (tail)
                    tail->next = smaller;
                else
                    list = smaller;
                tail = smaller;
            }
            left = right;
        }
        if (tail)
            tail->next = 0;
        if (merges <= 1)
            return list;
    }
}

static u16 work_on_list(u32 seed, u16 crc) {
    struct node *list = make_list(seed);
    for (s16 i = 0; i < 60; ++i) {
        const struct node *found = find(list, (s16)(i * 17 & 0x3ff));
        crc = crc16(found ? (u32)found->index : 0xffff, 2, crc);
        list = reverse(list);
    }
    list = merge_sort(list, by_key);
    for (const struct node *each = list; each; each = each->next)
        crc = crc16((u16)each->key, 1, crc);
    list = merge_sort(list, by_index);
    return crc16((u16)list->key, 2, crc);
}

// --- Matrices.

enum { kSide = 12 };
static s16 matrix_a[kSide][kSide], matrix_b[kSide][kSide];
static s32 matrix_c[kSide][kSide];

static u16 work_on_matrices(u32 seed, u16 crc) {
    for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) {
            seed = seed * 1664525 + 1013904223;
            matrix_a[i][j] = (s16)(seed >> 20);
            matrix_b[i][j] = (s16)(seed >> 8 & 0xff);
        }
    for (int round = 0; round < 2; ++round) {
        s32 sum = 0;
        for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j) {
                s32 total = 0;
                for (int k = 0; k < kSide; ++k)
                    total += round ? (matrix_a[i][k] * matrix_b[k][j] >> 2 & 15) * (matrix_b[k][j] >> 5)
                                   : matrix_a[i][k] * matrix_b[k][j];
                matrix_c[i][j] = total;
                sum += total > 1000 ? total >> 4 : -total;
            }
        crc = crc16((u32)sum, 4, crc);
        for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j)
                matrix_a[i][j] = (s16)(matrix_a[i][j] + (matrix_c[i][j] & 7));
    }
    return crc;
}

// --- A state machine: numbers in a text, by their kind.

enum state { kStart, kSign, kInteger, kPoint, kFraction, kExponent, kExponentDigits, kInvalid, kStates };

static char text[256];

static int is_digit(char c) {
    return c >= '0' && c <= '9';
}

static enum state next_state(enum state now, char c, u32 *transitions) {
    enum state next = now;
    switch (now) {
        case kStart:
            next = is_digit(c) ? kInteger : c == '+' || c == '-' ? kSign : c == '.' ? kPoint : kInvalid;
            break;
        case kSign:
            next = is_digit(c) ? kInteger : c == '.' ? kPoint : kInvalid;
            break;
        case kInteger:
            next = c == '.' ? kFraction : c == 'e' ? kExponent : is_digit(c) ? kInteger : kInvalid;
            break;
        case kPoint:
        case kFraction:
            next = is_digit(c) ? kFraction : c == 'e' ? kExponent : kInvalid;
            break;
        case kExponent:
            next = is_digit(c) || c == '-' ? kExponentDigits : kInvalid;
            break;
        case kExponentDigits:
            next = is_digit(c) ? kExponentDigits : kInvalid;
            break;
        default:
            break;
    }
    if (next != now)
        ++transitions[next];
    return next;
}

static u16 work_on_text(u32 seed, u16 crc) {
    static const char *const kWords[] = {"5012", "1234", "-874", "+122",  "35.54400", ".1234500", "-110.700", "+0.64400",
                                         "5.500e3", "-.123e-2", "-87e+832", "+0.6e-12", "T0.3e-1F", "-T.T++Tq"};
    unsigned length = 0;
    while (length < sizeof text - 12) {
        seed = seed * 22695477 + 1;
        const char *word = kWords[(seed >> 16) % (sizeof kWords / sizeof *kWords)];
        while (*word)
            text[length++] = *word++;
        text[length++] = ',';
    }
    text[length] = 0;

    u32 final[kStates] = {0}, transitions[kStates] = {0};
    enum state now = kStart;
    for (const char *at = text; *at; ++at) {
        if (*at == ',') {
            ++final[now];
            now = kStart;
        } else if (now != kInvalid) {
            now = next_state(now, *at, transitions);
        }
    }
    for (int i = 0; i < kStates; ++i) {
        crc = crc16(final[i], 4, crc);
        crc = crc16(transitions[i], 4, crc);
    }
    return crc;
}

#ifndef ROUNDS
#define ROUNDS 10000
#endif

int main(void) {
    u16 crc = 0;
    for (u32 round = 0; round < ROUNDS; ++round) {
        crc = work_on_list(round, crc);
        crc = work_on_matrices(round, crc);
        crc = work_on_text(round, crc);
    }
    print("integer: crc ");
    print_hex(crc);
    print("\n");
    return 0;
}

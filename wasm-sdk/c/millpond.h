/* Millpond transforms in C99: this one file, no library, no libc.
 *
 * A transform sees every record of a topic before it is stored and decides: keep it, drop it, make
 * others of it. The contract that this file speaks is in ../SPEC.md; numbers in brackets below are
 * its rules. In one source file, and in no other, define MILLPOND_IMPLEMENTATION first:
 *
 *     #define MILLPOND_IMPLEMENTATION
 *     #include "millpond.h"
 *
 *     void mp_on_start(void) {}
 *
 *     mp_verdict mp_on_record(const mp_record *record) {
 *         return record->value.len == MP_NULL ? MP_DROP : MP_KEEP;
 *     }
 *
 * Build it with clang and lld:
 *
 *     clang --target=wasm32 -std=c99 -O2 -ffreestanding -nostdlib -Wl,--no-entry \
 *         -Wl,--stack-first -o transform.wasm transform.c
 *
 * With MILLPOND_TIMERS defined, too, the module has timers and must have mp_on_timer.
 *
 * What a module must never count on: that an instance lives from one batch to the next. What must
 * not be lost goes to mp_state_put. There is no clock and no randomness but what a record brings,
 * so that the same input gives the same output.
 */
#ifndef MILLPOND_H
#define MILLPOND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Bytes ------------------------------------------------------------------------------- */

/* A length that says: there is none (not: it is empty). */
#define MP_NULL UINT32_MAX

/* Bytes somewhere. With len MP_NULL there are none, and ptr means nothing. */
typedef struct {
    const uint8_t *ptr;
    uint32_t len;
} mp_bytes;

/* The bytes of a string literal. */
#define MP_TEXT(literal) ((mp_bytes){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* No bytes: no key, or a tombstone's value. */
#define MP_NONE ((mp_bytes){0, MP_NULL})

/* Whether they are the same. */
int mp_equal(mp_bytes one, mp_bytes other);

/* Room for so many bytes, at a multiple of 16, until the call that is running returns; taken in
 * mp_on_start it is kept for good. Never NULL: without memory the call is aborted. */
void *mp_alloc(uint32_t bytes);

/* Copies bytes to a place of mp_alloc, with `before` in front and `after` behind: for messages. */
mp_bytes mp_join(mp_bytes before, mp_bytes middle, mp_bytes after);

/* ---- Records ----------------------------------------------------------------------------- */

/* A header's name, and its value, which may be none. */
typedef struct {
    mp_bytes name;
    mp_bytes value;
} mp_header;

/* One record. Its bytes stay until the call returns. */
typedef struct {
    int64_t timestamp_ms;   /* since 1970; the module's clock */
    uint64_t input_number;  /* how many records this partition was sent before */
    uint32_t ordinal;       /* which of those that an earlier transform made of one */
    mp_bytes key;
    mp_bytes value;
    uint32_t header_count;
    const uint8_t *entries; /* for mp_header_at */
} mp_record;

/* What holds for all records of the call. */
typedef struct {
    mp_bytes topic;
    int32_t partition;
    int is_replay;         /* what comes of it is not stored */
    uint64_t seed;         /* of randomness: mix it with input_number and ordinal */
    int64_t watermark_ms;  /* before this batch; INT64_MIN: none yet */
    uint64_t state_bytes;  /* in use */
    const uint8_t *bytes;  /* the input itself */
} mp_batch;

/* The call that is running. */
const mp_batch *mp_current(void);

/* A record's header; index below header_count. */
mp_header mp_header_at(const mp_record *record, uint32_t index);

/* ---- What becomes of them ---------------------------------------------------------------- */

typedef uint32_t mp_verdict;
#define MP_KEEP 0   /* the record goes on, then what was emitted for it */
#define MP_DROP 1   /* only what was emitted for it goes on */
#define MP_FAILED 2 /* see mp_fail */

/* The record cannot be understood: return what this gives. Its failure policy applies, with this
 * message for a person; what was emitted for it is taken back. The bytes must stay until the call
 * returns: a literal, input, or mp_alloc. */
mp_verdict mp_fail(mp_bytes message);

/* A record to be made. Its bytes must stay until the call returns, too. */
typedef struct {
    int64_t timestamp_ms;
    mp_bytes key;
    mp_bytes value;
    mp_bytes topic; /* len 0: the topic that it came to; else one of the transform's outputs */
    const mp_header *headers;
    uint32_t header_count;
} mp_emit;

/* A copy of a record, to be changed. */
mp_emit mp_copy_of(const mp_record *record);

/* Emits a record: behind the one in hand if that is kept, in its place if that is dropped. */
void mp_emit_record(const mp_emit *emit);

/* ---- What the author writes -------------------------------------------------------------- */

/* Once in each instance, before any record: settings are read here. Refuses them by mp_abort. */
void mp_on_start(void);

/* Decides on one record. */
mp_verdict mp_on_record(const mp_record *record);

#ifdef MILLPOND_TIMERS
/* Acts on a timer that is due: `timer->key` and `timer->timestamp_ms` are what it was set with. It
 * is spent whatever is returned. */
mp_verdict mp_on_timer(const mp_record *timer);
#endif

/* ---- The host ---------------------------------------------------------------------------- */

#define MP_IMPORT(name) __attribute__((import_module("millpond"), import_name(name)))

#define MP_DEBUG 0
#define MP_INFO 1
#define MP_WARN 2
#define MP_ERROR 3

/* One line of the transform's log. */
void mp_log(uint32_t level, mp_bytes line);

/* Ends the call with a message, as a trap does. */
void mp_abort(mp_bytes message) __attribute__((noreturn));

/* A setting's value, at a place of mp_alloc; MP_NONE if it is not set. */
mp_bytes mp_setting(mp_bytes name);

/* ---- State: one map of keys to values for each partition, kept with the output --------------- */

#define MP_STATE_DONE 0
#define MP_STATE_FULL 1
#define MP_STATE_TOO_LONG 2

/* The value of a key, at a place of mp_alloc; MP_NONE if there is none. */
mp_bytes mp_state_get(mp_bytes key);

/* Writes an entry. expires_ms: gone once the watermark reaches it; 0: never. Gives an MP_STATE_. */
uint32_t mp_state_put(mp_bytes key, mp_bytes value, int64_t expires_ms);

/* Deletes an entry. Gives whether it was there. */
int mp_state_delete(mp_bytes key);

/* A walk over the entries with from <= key < to, ascending; `to` MP_NONE: to the end.
 *
 *     mp_range range = mp_state_range(MP_TEXT("a"), MP_NONE);
 *     while (mp_range_next(&range)) { ... range.key, range.value ... }
 */
typedef struct {
    mp_bytes key;
    mp_bytes value;
    mp_bytes from, to, pack;
    uint32_t at;
} mp_range;

mp_range mp_state_range(mp_bytes from, mp_bytes to);
int mp_range_next(mp_range *range);

/* Sets a timer, which is its time and its key. Gives an MP_STATE_. */
uint32_t mp_timer_set(int64_t at_ms, mp_bytes key);

/* Deletes a timer. Gives whether it was there. */
int mp_timer_delete(int64_t at_ms, mp_bytes key);

/* ---- Helpers of the host: some nanoseconds a call ------------------------------------------- */

#define MP_JSON_NULL 1
#define MP_JSON_BOOL 2
#define MP_JSON_NUMBER 3
#define MP_JSON_STRING 4
#define MP_JSON_ARRAY 5
#define MP_JSON_OBJECT 6
#define MP_JSON_NOT_FOUND (-1)
#define MP_JSON_INVALID (-2)
#define MP_JSON_NOT_A_NUMBER (-3)

/* Finds a value by its JSON pointer ("/a/b", RFC 6901). Gives its MP_JSON_ kind, or below 0; puts
 * what it is to `found`: a string without its quotes, escapes as they stand. */
int32_t mp_host_json_field(mp_bytes document, mp_bytes pointer, mp_bytes *found);

/* The same for a number: 0 if there is one, or below 0. */
int32_t mp_host_json_number(mp_bytes document, mp_bytes pointer, double *number);

/* The number in a top-level field of each of several JSON objects, or NaN: the fastest way to filter
 * a batch. It takes for granted that they are JSON. The field's name as it stands between its
 * quotes. */
void mp_host_json_numbers(
    const mp_bytes *documents, uint32_t count, mp_bytes field, double *numbers);

/* XXH64. */
uint64_t mp_host_hash64(mp_bytes bytes, uint64_t seed);

/* ---- Helpers in the module itself, for any broker ------------------------------------------- */

/* The number in a top-level field of a JSON object. Gives whether there is one. The nearest double
 * for up to 2^53 and 22 decimal places; beyond that the last digit may differ. */
int mp_json_number(mp_bytes object, mp_bytes field, double *number);

/* The number that a text is, without space around it. Gives whether it is one. */
int mp_parse_number(mp_bytes text, double *number);

#ifdef __cplusplus
}
#endif

/* ============================================================================================= */
#ifdef MILLPOND_IMPLEMENTATION

/* The host's functions as they are. */
MP_IMPORT("log") void mp_import_log(uint32_t, const uint8_t *, uint32_t);
MP_IMPORT("abort") void mp_import_abort(const uint8_t *, uint32_t);
MP_IMPORT("setting") int32_t mp_import_setting(const uint8_t *, uint32_t, uint8_t *, uint32_t);
MP_IMPORT("state_get") int32_t mp_import_get(const uint8_t *, uint32_t, uint8_t *, uint32_t);
MP_IMPORT("state_put")
uint32_t mp_import_put(const uint8_t *, uint32_t, const uint8_t *, uint32_t, int64_t);
MP_IMPORT("state_delete") uint32_t mp_import_delete(const uint8_t *, uint32_t);
MP_IMPORT("state_range")
int32_t mp_import_range(const uint8_t *, uint32_t, const uint8_t *, uint32_t, uint8_t *, uint32_t);
MP_IMPORT("timer_set") uint32_t mp_import_timer_set(int64_t, const uint8_t *, uint32_t);
MP_IMPORT("timer_delete") uint32_t mp_import_timer_delete(int64_t, const uint8_t *, uint32_t);
MP_IMPORT("json_field")
int32_t mp_import_json_field(const uint8_t *, uint32_t, const uint8_t *, uint32_t, uint32_t *);
MP_IMPORT("json_number")
int32_t mp_import_json_number(const uint8_t *, uint32_t, const uint8_t *, uint32_t, double *);
MP_IMPORT("json_numbers")
void mp_import_json_numbers(const mp_bytes *, uint32_t, const uint8_t *, uint32_t, double *);
MP_IMPORT("hash64") uint64_t mp_import_hash64(const uint8_t *, uint32_t, uint64_t);

/* ---- Memory: one region that grows. What one call took is given back by the next. ------------ */

extern uint8_t __heap_base;

static struct {
    uintptr_t kept; /* below it is what mp_on_start took */
    uintptr_t top;
    int is_started;
    mp_batch batch;
    uint32_t progress;
    mp_bytes failure;
    struct mp_row *rows;
    uint32_t row_count, row_room;
} mp_now;

/* An emitted record as the host reads it (O6). */
struct mp_row {
    int64_t timestamp_ms;
    mp_bytes key, value;
    const mp_header *headers;
    uint32_t header_count;
    mp_bytes topic;
    uint32_t zero[2];
};

struct mp_verdict_entry {
    uint32_t kind, emitted;
    mp_bytes message;
};

struct mp_output {
    uint32_t magic, header_bytes, verdict_count;
    struct mp_verdict_entry *verdicts;
    uint32_t row_count;
    struct mp_row *rows;
    uint32_t zero[2];
};

typedef char mp_check_row[sizeof(struct mp_row) == 48 ? 1 : -1];
typedef char mp_check_verdict[sizeof(struct mp_verdict_entry) == 16 ? 1 : -1];
typedef char mp_check_output[sizeof(struct mp_output) == 32 ? 1 : -1];
typedef char mp_check_header[sizeof(mp_header) == 16 ? 1 : -1];

/* The compiler may call these of itself. */
__attribute__((weak, no_builtin("memcpy"))) void *
memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *out = to;
    const uint8_t *in = from;
    while (bytes--) *out++ = *in++;
    return to;
}

__attribute__((weak, no_builtin("memset"))) void *memset(void *to, int byte, size_t bytes) {
    uint8_t *out = to;
    while (bytes--) *out++ = (uint8_t)byte;
    return to;
}

static void *mp_take(uint32_t bytes) {
    uintptr_t start = (mp_now.top + 15) & ~(uintptr_t)15;
    uint64_t end = (uint64_t)start + bytes;
    uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
    if (end > have) {
        uint64_t pages = (end - have + 0xffff) >> 16;
        if (pages > 0xffff || __builtin_wasm_memory_grow(0, (size_t)pages) == (size_t)-1) return 0;
    }
    mp_now.top = (uintptr_t)end;
    return (void *)start;
}

void *mp_alloc(uint32_t bytes) {
    if (!mp_now.top) mp_now.top = (uintptr_t)&__heap_base;
    void *taken = mp_take(bytes);
    if (!taken) mp_abort(MP_TEXT("out of memory"));
    return taken;
}

int mp_equal(mp_bytes one, mp_bytes other) {
    if (one.len != other.len) return 0;
    if (one.len == MP_NULL) return 1;
    for (uint32_t at = 0; at < one.len; at++)
        if (one.ptr[at] != other.ptr[at]) return 0;
    return 1;
}

mp_bytes mp_join(mp_bytes before, mp_bytes middle, mp_bytes after) {
    uint32_t len = before.len + middle.len + after.len;
    uint8_t *to = mp_alloc(len);
    memcpy(to, before.ptr, before.len);
    memcpy(to + before.len, middle.ptr, middle.len);
    memcpy(to + before.len + middle.len, after.ptr, after.len);
    return (mp_bytes){to, len};
}

/* ---- Input ---------------------------------------------------------------------------------- */

static uint32_t mp_u32(const uint8_t *at) {
    uint32_t value;
    __builtin_memcpy(&value, at, 4);
    return value;
}

static uint64_t mp_u64(const uint8_t *at) {
    uint64_t value;
    __builtin_memcpy(&value, at, 8);
    return value;
}

/* Where offset and length stand. */
static mp_bytes mp_bytes_at(const uint8_t *at) {
    return (mp_bytes){mp_now.batch.bytes + mp_u32(at), mp_u32(at + 4)};
}

const mp_batch *mp_current(void) { return &mp_now.batch; }

mp_header mp_header_at(const mp_record *record, uint32_t index) {
    const uint8_t *entry = record->entries + (size_t)index * 16;
    return (mp_header){mp_bytes_at(entry), mp_bytes_at(entry + 8)};
}

/* ---- Output --------------------------------------------------------------------------------- */

mp_verdict mp_fail(mp_bytes message) {
    mp_now.failure = message;
    return MP_FAILED;
}

mp_emit mp_copy_of(const mp_record *record) {
    mp_header *headers = 0;
    if (record->header_count) {
        headers = mp_alloc(record->header_count * (uint32_t)sizeof *headers);
        for (uint32_t at = 0; at < record->header_count; at++)
            headers[at] = mp_header_at(record, at);
    }
    return (mp_emit){record->timestamp_ms, record->key,         record->value, {0, 0},
                     headers,              record->header_count};
}

void mp_emit_record(const mp_emit *emit) {
    if (mp_now.row_count == mp_now.row_room) {
        uint32_t room = mp_now.row_room ? mp_now.row_room * 2 : 64;
        struct mp_row *rows = mp_alloc(room * (uint32_t)sizeof *rows);
        memcpy(rows, mp_now.rows, mp_now.row_count * sizeof *rows);
        mp_now.rows = rows;
        mp_now.row_room = room;
    }
    mp_now.rows[mp_now.row_count++] = (struct mp_row){
        emit->timestamp_ms, emit->key,   emit->value, emit->headers,
        emit->header_count, emit->topic, {0, 0},
    };
}

/* ---- Calls ---------------------------------------------------------------------------------- */

__attribute__((export_name("millpond_alloc"))) void *mp_export_alloc(uint32_t bytes) {
    if (!mp_now.top) mp_now.top = (uintptr_t)&__heap_base;
    if (!mp_now.kept) mp_now.kept = mp_now.top;
    mp_now.top = mp_now.kept;
    return mp_take(bytes);
}

__attribute__((export_name("millpond_init"))) uint32_t mp_export_init(void) {
    mp_on_start();
    mp_now.kept = mp_now.top;
    mp_now.is_started = 1;
    return 0;
}

__attribute__((export_name("millpond_progress"))) uint32_t *mp_export_progress(void) {
    return &mp_now.progress;
}

static uint64_t mp_run(const uint8_t *in, uint32_t len, mp_verdict (*each)(const mp_record *)) {
    if (len < 96 || mp_u32(in) != 0x3149504d || mp_u32(in + 8) != len || mp_u32(in + 20) != 48)
        mp_abort(MP_TEXT("the input does not follow the contract"));
    mp_now.batch.bytes = in;
    mp_now.batch.topic = mp_bytes_at(in + 32);
    mp_now.batch.partition = (int32_t)mp_u32(in + 40);
    mp_now.batch.is_replay = mp_u32(in + 44) & 1;
    mp_now.batch.seed = mp_u64(in + 56);
    mp_now.batch.watermark_ms = (int64_t)mp_u64(in + 64);
    mp_now.batch.state_bytes = mp_u64(in + 72);
    mp_now.rows = 0;
    mp_now.row_count = mp_now.row_room = 0;
    uint32_t count = mp_u32(in + 12);
    uint64_t first_input = mp_u64(in + 48);
    struct mp_verdict_entry *verdicts = mp_alloc(count * (uint32_t)sizeof *verdicts);
    int is_untouched = 1;
    for (uint32_t index = 0; index < count; index++) {
        const uint8_t *entry = in + mp_u32(in + 16) + (size_t)index * 48;
        const uint8_t *headers = in + mp_u32(in + 24) + (size_t)mp_u32(entry + 32) * 16;
        mp_record record = {(int64_t)mp_u64(entry), first_input + mp_u32(entry + 8),
                            mp_u32(entry + 12),     mp_bytes_at(entry + 16),
                            mp_bytes_at(entry + 24), mp_u32(entry + 36),
                            headers};
        mp_now.progress = index;
        mp_now.failure = (mp_bytes){0, 0};
        uint32_t rows_before = mp_now.row_count;
        mp_verdict verdict = each(&record);
        if (verdict == MP_FAILED) mp_now.row_count = rows_before;
        uint32_t emitted = mp_now.row_count - rows_before;
        is_untouched &= verdict == MP_KEEP && !emitted;
        verdicts[index] = (struct mp_verdict_entry){verdict, emitted, mp_now.failure};
    }
    if (is_untouched) return 0;
    struct mp_output *output = mp_alloc(sizeof *output);
    *output = (struct mp_output){0x314f504d,       sizeof *output, count, verdicts,
                                 mp_now.row_count, mp_now.rows,    {0, 0}};
    return (uint64_t)(uintptr_t)output << 32 | sizeof *output;
}

__attribute__((export_name("millpond_transform_v1"))) uint64_t
mp_export_transform(const uint8_t *input, uint32_t len) {
    if (!mp_now.is_started) mp_abort(MP_TEXT("millpond_init was not called"));
    return mp_run(input, len, mp_on_record);
}

#ifdef MILLPOND_TIMERS
__attribute__((export_name("millpond_timer_v1"))) uint64_t
mp_export_timer(const uint8_t *input, uint32_t len) {
    return mp_run(input, len, mp_on_timer);
}
#endif

/* ---- The host's functions, with bytes for pointers ------------------------------------------- */

void mp_log(uint32_t level, mp_bytes line) { mp_import_log(level, line.ptr, line.len); }

void mp_abort(mp_bytes message) {
    mp_import_abort(message.ptr, message.len);
    __builtin_trap();
}

mp_bytes mp_setting(mp_bytes name) {
    int32_t len = mp_import_setting(name.ptr, name.len, 0, 0);
    if (len < 0) return MP_NONE;
    uint8_t *value = mp_alloc((uint32_t)len);
    mp_import_setting(name.ptr, name.len, value, (uint32_t)len);
    return (mp_bytes){value, (uint32_t)len};
}

mp_bytes mp_state_get(mp_bytes key) {
    uint32_t room = 128;
    for (;;) {
        uint8_t *value = mp_alloc(room);
        int32_t len = mp_import_get(key.ptr, key.len, value, room);
        if (len < 0) return MP_NONE;
        if ((uint32_t)len <= room) return (mp_bytes){value, (uint32_t)len};
        room = (uint32_t)len;
    }
}

uint32_t mp_state_put(mp_bytes key, mp_bytes value, int64_t expires_ms) {
    return mp_import_put(key.ptr, key.len, value.ptr, value.len, expires_ms);
}

int mp_state_delete(mp_bytes key) { return mp_import_delete(key.ptr, key.len) == 1; }

mp_range mp_state_range(mp_bytes from, mp_bytes to) {
    return (mp_range){MP_NONE, MP_NONE, from, to, {0, 0}, 0};
}

int mp_range_next(mp_range *range) {
    if (range->at == range->pack.len) {
        uint32_t room = 2048;
        int32_t len;
        uint8_t *pack;
        do {
            pack = mp_alloc(room);
            len = mp_import_range(range->from.ptr, range->from.len, range->to.ptr, range->to.len,
                                  pack, room);
            room = (uint32_t)-len;
        } while (len < 0);
        range->pack = (mp_bytes){pack, (uint32_t)len};
        range->at = 0;
        if (!len) return 0;
    }
    const uint8_t *entry = range->pack.ptr + range->at;
    range->key = (mp_bytes){entry + 8, mp_u32(entry)};
    range->value = (mp_bytes){entry + 8 + range->key.len, mp_u32(entry + 4)};
    range->at += 8 + range->key.len + range->value.len;
    if (range->at == range->pack.len) {
        static const uint8_t zero[1];
        range->from = mp_join(range->key, (mp_bytes){zero, 1}, (mp_bytes){zero, 0});
    }
    return 1;
}

uint32_t mp_timer_set(int64_t at_ms, mp_bytes key) {
    return mp_import_timer_set(at_ms, key.ptr, key.len);
}

int mp_timer_delete(int64_t at_ms, mp_bytes key) {
    return mp_import_timer_delete(at_ms, key.ptr, key.len) == 1;
}

int32_t mp_host_json_field(mp_bytes document, mp_bytes pointer, mp_bytes *found) {
    uint32_t place[2] = {0, 0};
    int32_t kind =
        mp_import_json_field(document.ptr, document.len, pointer.ptr, pointer.len, place);
    if (kind > 0) *found = (mp_bytes){document.ptr + place[0], place[1]};
    return kind;
}

int32_t mp_host_json_number(mp_bytes document, mp_bytes pointer, double *number) {
    return mp_import_json_number(document.ptr, document.len, pointer.ptr, pointer.len, number);
}

void mp_host_json_numbers(
    const mp_bytes *documents, uint32_t count, mp_bytes field, double *numbers) {
    mp_import_json_numbers(documents, count, field.ptr, field.len, numbers);
}

uint64_t mp_host_hash64(mp_bytes bytes, uint64_t seed) {
    return mp_import_hash64(bytes.ptr, bytes.len, seed);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static int mp_is_space(uint8_t byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static uint32_t mp_skip_space(mp_bytes text, uint32_t at) {
    while (at < text.len && mp_is_space(text.ptr[at])) at++;
    return at;
}

/* Past the closing quote of the text whose opening quote is at `at`; MP_NULL if there is none. */
static uint32_t mp_skip_text(mp_bytes text, uint32_t at) {
    for (at++; at < text.len; at++) {
        if (text.ptr[at] == '"') return at + 1;
        if (text.ptr[at] == '\\') at++;
    }
    return MP_NULL;
}

static uint32_t mp_skip_value(mp_bytes text, uint32_t at) {
    uint32_t depth = 0, start = at;
    while (at < text.len) {
        uint8_t byte = text.ptr[at];
        if (byte == '"') {
            at = mp_skip_text(text, at);
            if (at == MP_NULL || !depth) return at;
            continue;
        }
        if (byte == '{' || byte == '[') depth++;
        if (!depth && (byte == ',' || byte == '}' || byte == ']' || mp_is_space(byte)))
            return at > start ? at : MP_NULL;
        at++;
        if ((byte == '}' || byte == ']') && !--depth) return at;
    }
    return depth || at == start ? MP_NULL : at;
}

/* Reads a number at the start of a text; gives how many bytes it has, 0 if there is none. */
static uint32_t mp_scan_number(mp_bytes text, double *number) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint32_t at = 0, start;
    int is_negative = text.len && text.ptr[0] == '-';
    uint64_t digits = 0;
    int32_t exponent = 0;
    at = start = (uint32_t)is_negative;
    for (int is_fraction = 0;; is_fraction = 1) {
        for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++) {
            int is_kept = digits < UINT64_MAX / 10 - 1;
            if (is_kept) digits = digits * 10 + (text.ptr[at] - '0');
            exponent += is_fraction ? -is_kept : !is_kept;
        }
        if (at == start) return 0;
        if (is_fraction || at == text.len || text.ptr[at] != '.') break;
        start = ++at;
    }
    if (at < text.len && (text.ptr[at] | 0x20) == 'e') {
        int32_t power = 0;
        int is_small = ++at < text.len && text.ptr[at] == '-';
        if (at < text.len && (text.ptr[at] == '-' || text.ptr[at] == '+')) at++;
        for (start = at; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++)
            if (power < 100000) power = power * 10 + (text.ptr[at] - '0');
        if (at == start) return 0;
        exponent += is_small ? -power : power;
    }
    double value = (double)digits;
    while (exponent && value && value <= 1.7976931348623157e308) {
        int32_t step = exponent > 22 ? 22 : exponent < -22 ? -22 : exponent;
        value = step > 0 ? value * tens[step] : value / tens[-step];
        exponent -= step;
    }
    *number = is_negative ? -value : value;
    return at;
}

int mp_parse_number(mp_bytes text, double *number) {
    return text.len && text.len != MP_NULL && mp_scan_number(text, number) == text.len;
}

int mp_json_number(mp_bytes object, mp_bytes field, double *number) {
    if (object.len == MP_NULL) return 0;
    uint32_t at = mp_skip_space(object, 0);
    if (at == object.len || object.ptr[at] != '{') return 0;
    do {
        at = mp_skip_space(object, at + 1);
        if (at >= object.len || object.ptr[at] != '"') return 0;
        uint32_t name = at + 1;
        at = mp_skip_text(object, at);
        if (at == MP_NULL) return 0;
        int is_it = mp_equal((mp_bytes){object.ptr + name, at - 1 - name}, field);
        at = mp_skip_space(object, at);
        if (at >= object.len || object.ptr[at] != ':') return 0;
        at = mp_skip_space(object, at + 1);
        uint32_t end = at < object.len ? mp_skip_value(object, at) : MP_NULL;
        if (end == MP_NULL) return 0;
        if (is_it) return mp_parse_number((mp_bytes){object.ptr + at, end - at}, number);
        at = mp_skip_space(object, end);
    } while (at < object.len && object.ptr[at] == ',');
    return 0;
}

#endif /* MILLPOND_IMPLEMENTATION */
#endif /* MILLPOND_H */

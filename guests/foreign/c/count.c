/* For tests of the header's state and timers: counts the records of each key, and when nothing more
 * can come for 10 ms of its time, tells the count (`3 of 5`: of all keys that are counted) and
 * forgets it. Counts and keys are below ten.
 */
#define MILLPOND_IMPLEMENTATION
#define MILLPOND_TIMERS
#include "millpond.h"

void mp_on_start(void) {}

mp_verdict mp_on_record(const mp_record *record) {
    if (record->key.len == MP_NULL) return mp_fail(MP_TEXT("no key"));
    mp_bytes before = mp_state_get(record->key);
    uint8_t *entry = mp_alloc(9);
    int64_t last_ms = record->timestamp_ms;
    entry[0] = 1;
    if (before.len == 9) {
        int64_t before_ms;
        __builtin_memcpy(&before_ms, before.ptr + 1, 8);
        if (!mp_timer_delete(before_ms + 10, record->key)) return mp_fail(MP_TEXT("no timer"));
        if (before_ms > last_ms) last_ms = before_ms;
        entry[0] = before.ptr[0] + 1;
    }
    __builtin_memcpy(entry + 1, &last_ms, 8);
    if (mp_state_put(record->key, (mp_bytes){entry, 9}, 0) != MP_STATE_DONE)
        return mp_fail(MP_TEXT("the state is full"));
    if (mp_timer_set(last_ms + 10, record->key) != MP_STATE_DONE)
        return mp_fail(MP_TEXT("no timers"));
    return MP_DROP;
}

mp_verdict mp_on_timer(const mp_record *timer) {
    uint8_t keys = '0';
    mp_range range = mp_state_range(MP_TEXT(""), MP_NONE);
    while (mp_range_next(&range)) keys++;
    mp_bytes counted = mp_state_get(timer->key);
    uint8_t *text = mp_alloc(6);
    __builtin_memcpy(text, "0 of 0", 6);
    text[0] += counted.ptr[0];
    text[5] = keys;
    mp_emit told = mp_copy_of(timer);
    told.value = (mp_bytes){text, 6};
    mp_emit_record(&told);
    mp_state_delete(timer->key);
    return MP_DROP;
}

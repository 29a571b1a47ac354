/* Makes one record of each line of a value: guests/modules/split in C, with the same setting. */
#define MILLPOND_IMPLEMENTATION
#include "millpond.h"

static mp_bytes separator;

void mp_on_start(void) {
    separator = mp_setting(MP_TEXT("separator"));
    if (separator.len == MP_NULL) separator = MP_TEXT("\n");
    if (separator.len != 1)
        mp_abort(mp_join(MP_TEXT("`separator` is one byte, not `"), separator, MP_TEXT("`")));
}

/* Where the separator stands next; the end if it does not. */
static uint32_t find(mp_bytes text, uint32_t at) {
    while (at < text.len && text.ptr[at] != separator.ptr[0]) at++;
    return at;
}

mp_verdict mp_on_record(const mp_record *record) {
    mp_bytes value = record->value;
    if (value.len == MP_NULL || find(value, 0) == value.len) return MP_KEEP;
    mp_emit line = mp_copy_of(record);
    for (uint32_t at = 0, end; at <= value.len; at = end + 1) {
        end = find(value, at);
        line.value = (mp_bytes){value.ptr + at, end - at};
        if (line.value.len) mp_emit_record(&line);
    }
    return MP_DROP;
}

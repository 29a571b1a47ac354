/* Keeps the records whose JSON number field is within limits: guests/modules/threshold in C, with
 * the same settings and messages.
 *
 * Built by core/transform/tests/languages.rs as millpond.h says.
 */
#define MILLPOND_IMPLEMENTATION
#include "millpond.h"

static struct {
    mp_bytes field;
    double min, max;
    mp_verdict inside, outside, missing;
    mp_bytes message;
} setting;

/* A setting's number; without the setting it stays as it is. Gives whether it is set. */
static int read_number(mp_bytes name, double *number) {
    mp_bytes text = mp_setting(name);
    if (text.len == MP_NULL) return 0;
    if (!mp_parse_number(text, number))
        mp_abort(mp_join(MP_TEXT("the setting `"), name, MP_TEXT("` cannot be read")));
    return 1;
}

void mp_on_start(void) {
    setting.min = -__builtin_inf();
    setting.max = __builtin_inf();
    int has_min = read_number(MP_TEXT("min"), &setting.min);
    int has_max = read_number(MP_TEXT("max"), &setting.max);
    if (!has_min && !has_max) mp_abort(MP_TEXT("set `min`, `max` or both"));

    mp_bytes keep = mp_setting(MP_TEXT("keep"));
    int keeps_inside = keep.len == MP_NULL || mp_equal(keep, MP_TEXT("inside"));
    if (!keeps_inside && !mp_equal(keep, MP_TEXT("outside")))
        mp_abort(mp_join(MP_TEXT("`keep` is inside or outside, not `"), keep, MP_TEXT("`")));
    setting.inside = keeps_inside ? MP_KEEP : MP_DROP;
    setting.outside = keeps_inside ? MP_DROP : MP_KEEP;

    mp_bytes missing = mp_setting(MP_TEXT("missing"));
    if (missing.len == MP_NULL || mp_equal(missing, MP_TEXT("error")))
        setting.missing = MP_FAILED;
    else if (mp_equal(missing, MP_TEXT("keep")))
        setting.missing = MP_KEEP;
    else if (mp_equal(missing, MP_TEXT("drop")))
        setting.missing = MP_DROP;
    else
        mp_abort(
            mp_join(MP_TEXT("`missing` is error, keep or drop, not `"), missing, MP_TEXT("`")));

    setting.field = mp_setting(MP_TEXT("field"));
    if (setting.field.len == MP_NULL) mp_abort(MP_TEXT("the setting `field` is required"));
    setting.message = mp_join(MP_TEXT("no number in the field `"), setting.field, MP_TEXT("`"));
}

mp_verdict mp_on_record(const mp_record *record) {
    double number;
    if (!mp_json_number(record->value, setting.field, &number))
        return setting.missing == MP_FAILED ? mp_fail(setting.message) : setting.missing;
    return setting.min <= number && number <= setting.max ? setting.inside : setting.outside;
}
